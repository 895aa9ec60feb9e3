/* The floor under a pod's start: the system calls that no runtime can do without, and nothing
 * else. A cgroup with limits, a detached overlay, one clone3 into the cgroup and new namespaces, a
 * dozen mounts, pivot_root, execve of a static program.
 *
 * usage: floor DIR ROUNDS IDLE_MS
 *   DIR/lower/bin/busybox must be a static busybox; DIR is on a file system that overlay accepts.
 * Prints one line: p50 p90 p99 in milliseconds without, then with a new network namespace. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Not in every libc, so with their numbers: <linux/mount.h> clashes with <sys/mount.h>. */
enum { SET_STRING = 1, CREATE = 6, MOVE_EMPTY_PATH = 4 };

static const char *base;

static void check(int bad, const char *what) {
  if (bad) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static const char *path(const char *format, ...) {
  static char buffers[4][512];
  static int next;
  char *buffer = buffers[next++ % 4];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof buffers[0], format, arguments);
  va_end(arguments);
  return buffer;
}

/* A limit is written where the node has the controller. */
static void limit(const char *cgroup, const char *file, const char *value) {
  int fd = open(path("%s/%s", cgroup, file), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  check(write(fd, value, strlen(value)) < 0, file);
  close(fd);
}

static int overlay(void) {
  int fs = syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
  check(fs < 0, "fsopen overlay");
  const char *options[][2] = {
      {"lowerdir", path("%s/lower", base)}, {"upperdir", path("%s/upper", base)}, {"workdir", path("%s/work", base)}};
  for (int i = 0; i < 3; i++) check(syscall(SYS_fsconfig, fs, SET_STRING, options[i][0], options[i][1], 0), options[i][0]);
  check(syscall(SYS_fsconfig, fs, CREATE, 0, 0, 0), "create overlay");
  int mount = syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
  check(mount < 0, "fsmount overlay");
  close(fs);
  return mount;
}

static void child(int root) {
  const char *top = path("%s/root", base);
  check(mount("", "/", 0, MS_REC | MS_SLAVE, 0), "slave mounts");
  check(syscall(SYS_move_mount, root, "", AT_FDCWD, top, MOVE_EMPTY_PATH), "move_mount root");
  check(chdir(top), "chdir");
  mkdir("proc", 0755), mkdir("dev", 0755), mkdir("sys", 0755), mkdir("old", 0755), mkdir("etc", 0755);
  check(mount("proc", "proc", "proc", 0, 0), "proc");
  check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "dev");
  mkdir("dev/pts", 0755), mkdir("dev/shm", 0755), mkdir("dev/mqueue", 0755);
  check(mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"), "devpts");
  check(mount("mqueue", "dev/mqueue", "mqueue", 0, 0), "mqueue");
  check(mount("shm", "dev/shm", "tmpfs", 0, "mode=1777,size=65536k"), "shm");
  const char *devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
  for (int i = 0; i < 6; i++) check(mknod(path("dev/%s", devices[i]), S_IFCHR | 0666, 0), "mknod");
  const char *files[] = {"hostname", "hosts", "resolv.conf"};
  for (int i = 0; i < 3; i++) {
    close(open(path("etc/%s", files[i]), O_CREAT | O_CLOEXEC, 0644));
    check(mount(path("%s/file", base), path("etc/%s", files[i]), 0, MS_BIND, 0), "bind");
  }
  const char *covered[] = {"proc/sys", "proc/bus", "proc/irq"};
  for (int i = 0; i < 3; i++) {
    check(mount(covered[i], covered[i], 0, MS_BIND, 0), "bind read-only path");
    check(mount(0, covered[i], 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), "read-only path");
  }
  check(mount("cgroup", "sys", "cgroup2", MS_RDONLY, 0), "cgroup2");
  check(syscall(SYS_pivot_root, ".", "old"), "pivot_root");
  check(umount2("/old", MNT_DETACH), "detach old root");
  char *arguments[] = {"true", 0}, *environment[] = {0};
  execve("/bin/busybox", arguments, environment);
  check(1, "execve");
}

static double start(int network, int round) {
  char byte, cgroup[128];
  int gate[2], status;
  snprintf(cgroup, sizeof cgroup, "/sys/fs/cgroup/floor-%d", round);
  mkdir(path("%s/upper", base), 0755), mkdir(path("%s/work", base), 0755), mkdir(path("%s/root", base), 0755);
  double began = now();
  check(mkdir(cgroup, 0755), "make the cgroup");
  limit(cgroup, "memory.max", "134217728");
  limit(cgroup, "cpu.max", "50000 100000");
  limit(cgroup, "cpu.weight", "20");
  limit(cgroup, "pids.max", "1024");
  int cgroup_fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
  check(cgroup_fd < 0 || pipe2(gate, O_CLOEXEC), "open the cgroup");
  int root = overlay();
  struct clone_args arguments = {
      .flags = CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP |
               (network ? CLONE_NEWNET : 0),
      .exit_signal = SIGCHLD,
      .cgroup = cgroup_fd,
  };
  pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  check(pid < 0, "clone3");
  if (pid == 0) child(root);
  close(gate[1]);
  check(read(gate[0], &byte, 1) < 0, "wait for exec"); /* ends when execve closes the other end */
  double took = now() - began;
  check(waitpid(pid, &status, 0) != pid || status != 0, "the program");
  close(gate[0]), close(root), close(cgroup_fd);
  check(rmdir(cgroup), "remove the cgroup");
  return took;
}

static int by_size(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int count, char **arguments) {
  if (count != 4) {
    fprintf(stderr, "usage: floor DIR ROUNDS IDLE_MS\n");
    return 2;
  }
  base = arguments[1];
  int rounds = atoi(arguments[2]), idle = atoi(arguments[3]);
  double *took = calloc(rounds, sizeof *took);
  check(!took || rounds < 1, "rounds");
  close(open(path("%s/file", base), O_CREAT | O_CLOEXEC, 0644));
  for (int network = 0; network < 2; network++) {
    start(network, 0); /* warms caches, not counted */
    for (int i = 0; i < rounds; i++) {
      usleep(idle * 1000);
      took[i] = start(network, i);
    }
    qsort(took, rounds, sizeof *took, by_size);
    const int percents[] = {50, 90, 99};
    printf("%s", network ? "with a new network namespace   " : "without a network namespace    ");
    for (int i = 0; i < 3; i++) printf(" %8.2f", took[(rounds * percents[i] + 99) / 100 - 1]);
    printf("\n");
  }
  return 0;
}
