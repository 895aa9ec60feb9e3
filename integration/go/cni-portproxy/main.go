// Command portproxy is a chained CNI plugin that forwards host ports in user space: for a node
// whose kernel has no NAT, where the portmap plugin cannot work. TCP only.
//
// ADD starts one proxy process per mapping in runtimeConfig.portMappings, in the network namespace
// of the caller, and remembers their pids; DEL ends them. The previous result is passed on.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Where the pids of a container's proxies are kept, one file per container and interface.
const stateDir = "/run/cni-portproxy"

type mapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type config struct {
	CNIVersion    string `json:"cniVersion"`
	RuntimeConfig struct {
		PortMappings []mapping `json:"portMappings"`
	} `json:"runtimeConfig"`
	PrevResult json.RawMessage `json:"prevResult"`
}

// Error codes of the CNI specification.
const (
	codeInvalidEnvironment = 4
	codeIO                 = 5
	codeDecoding           = 6
	codeInvalidConfig      = 7
)

type cniError struct {
	code int
	msg  string
}

func (e *cniError) Error() string { return e.msg }

func fail(code int, format string, args ...any) error {
	return &cniError{code, fmt.Sprintf(format, args...)}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "proxy" {
		if err := proxy(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := plugin(); err != nil {
		code := codeIO
		var e *cniError
		if errors.As(err, &e) {
			code = e.code
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "1.0.0", "code": code, "msg": err.Error()})
		os.Exit(1)
	}
}

func plugin() error {
	command := os.Getenv("CNI_COMMAND")
	if command == "VERSION" {
		_, err := fmt.Println(`{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
		return err
	}
	var conf config
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		return fail(codeDecoding, "cannot read the network configuration: %v", err)
	}
	switch command {
	case "ADD":
		return add(&conf)
	case "DEL":
		return del()
	case "CHECK", "STATUS", "GC":
		return nil
	}
	return fail(codeInvalidEnvironment, "unknown CNI_COMMAND %q", command)
}

func statePath() (string, error) {
	id, ifname := os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_IFNAME")
	if id == "" || ifname == "" || strings.ContainsRune(id+ifname, '/') {
		return "", fail(codeInvalidEnvironment, "bad CNI_CONTAINERID %q or CNI_IFNAME %q", id, ifname)
	}
	return filepath.Join(stateDir, id+"-"+ifname), nil
}

func add(conf *config) error {
	if len(conf.PrevResult) == 0 {
		return fail(codeInvalidConfig, "portproxy must follow a plugin that gives an address")
	}
	path, err := statePath()
	if err != nil {
		return err
	}
	ip, err := address(conf.PrevResult)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	var pids []string
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		if !strings.EqualFold(m.Protocol, "tcp") {
			err = fail(codeInvalidConfig, "port %d: protocol %q is not supported", m.HostPort, m.Protocol)
			break
		}
		var pid int
		pid, err = start(net.JoinHostPort(m.HostIP, strconv.Itoa(m.HostPort)), net.JoinHostPort(ip, strconv.Itoa(m.ContainerPort)))
		if err != nil {
			break
		}
		pids = append(pids, strconv.Itoa(pid))
	}
	if writeErr := os.WriteFile(path, []byte(strings.Join(pids, "\n")), 0o600); err == nil {
		err = writeErr
	}
	if err != nil {
		return errors.Join(err, del())
	}
	_, err = os.Stdout.Write(conf.PrevResult)
	return err
}

// address is the first address of a CNI result, without its prefix length.
func address(result json.RawMessage) (string, error) {
	var r struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return "", fail(codeDecoding, "cannot read prevResult: %v", err)
	}
	if len(r.IPs) == 0 {
		return "", fail(codeInvalidConfig, "prevResult has no address")
	}
	ip, _, err := net.ParseCIDR(r.IPs[0].Address)
	if err != nil {
		return "", fail(codeDecoding, "prevResult: %v", err)
	}
	return ip.String(), nil
}

// start listens and hands the listener to a process of its own, so that a port that is taken is an
// error of ADD.
func start(listen, target string) (int, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return 0, err
	}
	defer socket.Close()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, "proxy", listen, target)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// proxy serves the listener in file descriptor 3; listen only shows in the process list.
func proxy(listen, target string) error {
	l, err := net.FileListener(os.NewFile(3, listen))
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go forward(c, target)
	}
}

func forward(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(client, server)
	_ = client.(*net.TCPConn).CloseWrite()
	<-done
}

func del() error {
	path, err := statePath()
	if err != nil {
		return err
	}
	pids, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(pids)) {
		if n, err := strconv.Atoi(pid); err == nil && ours(n) {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	return os.Remove(path)
}

// ours guards against a pid that has been given to another program.
func ours(pid int) bool {
	self, err := os.Executable()
	if err != nil {
		return false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && exe == self
}
