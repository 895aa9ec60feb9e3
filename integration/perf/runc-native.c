/* runc for a node without the cpu controller, where containerd asks for CPU shares of every
 * sandbox and runc refuses: blanks that one wish in the bundle's config.json, then becomes runc.
 * Costs well under a millisecond of the peer's time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char WISH[] = "{\"shares\":2}";
static const char NOTHING[] = "{          }";

static void blank(const char *bundle) {
  char path[4096];
  struct stat info;
  snprintf(path, sizeof path, "%s/config.json", bundle);
  int fd = open(path, O_RDWR);
  if (fd < 0 || fstat(fd, &info) || info.st_size == 0) return;
  char *text = mmap(0, info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (text == MAP_FAILED) return;
  char *wish = memmem(text, info.st_size, WISH, sizeof WISH - 1);
  if (wish) memcpy(wish, NOTHING, sizeof NOTHING - 1);
}

int main(int count, char **arguments) {
  for (int i = 1; i + 1 < count; i++)
    if (strcmp(arguments[i], "--bundle") == 0) blank(arguments[i + 1]);
  execv("/usr/sbin/runc", arguments);
  perror("runc-native: /usr/sbin/runc");
  return 1;
}
