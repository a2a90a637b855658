package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is far beyond what anything here takes: it ends a hang, it measures nothing.
const patience = 20 * time.Second

// process is a child that prints `listening on HOST:PORT` when it is ready.
type process struct {
	name    string
	address string
	command *exec.Cmd
	stderr  bytes.Buffer // read it only after done is closed
	done    chan struct{}
}

// start starts a child and waits until it is ready. The end of the test ends it.
func start(t *testing.T, name, path string, arguments ...string) *process {
	t.Helper()
	p := &process{name: name, command: exec.Command(path, arguments...), done: make(chan struct{})}
	p.command.Stderr = &p.stderr
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	t.Cleanup(p.kill)

	ready := make(chan string, 1)
	go func() {
		defer close(p.done)
		defer p.command.Wait()
		defer close(ready)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if address, found := strings.CutPrefix(lines.Text(), "listening on "); found && p.address == "" {
				p.address = address
				ready <- address
			}
		}
	}()
	select {
	case _, ok := <-ready:
		if !ok {
			<-p.done
			t.Fatalf("%s ended before it was ready:\n%s", name, p.stderr.String())
		}
	case <-time.After(patience):
		p.kill()
		t.Fatalf("%s did not say `listening on …` within %v:\n%s", name, patience, p.stderr.String())
	}
	return p
}

// kill ends the child as a crash would.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// startService starts `peerstatus serve` with the given peers.
func startService(t *testing.T, peers ...string) *process {
	t.Helper()
	binary := os.Getenv("PEERSTATUS_BIN")
	if binary == "" {
		binary = filepath.Join(root(t), "target", "release", "peerstatus")
	}
	arguments := []string{"serve", "--listen", "127.0.0.1:0", "--admin", "off"}
	for _, peer := range peers {
		arguments = append(arguments, "--peer", peer)
	}
	return start(t, "the service", binary, arguments...)
}

// startPeer starts a strict OpFlex peer: the test fails if its client departs from the protocol.
func startPeer(t *testing.T, port int) *process {
	t.Helper()
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	peer := start(t, "the OpFlex peer", python, filepath.Join(root(t), "tests", "opflex_peer.py"), "--strict", "--port", fmt.Sprint(port))
	t.Cleanup(func() {
		peer.kill()
		if peer.command.ProcessState.Exited() {
			t.Errorf("the OpFlex peer saw a violation of the protocol:\n%s", peer.stderr.String())
		}
	})
	return peer
}

// reservePort finds a port on which nobody listens and keeps it: a bound socket that does not listen
// refuses connections, and with SO_REUSEADDR a peer can listen on it all the same (on Linux; elsewhere
// the port is only known to have been free).
func reservePort(t *testing.T) int {
	t.Helper()
	holder, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(holder)
	if err := syscall.SetsockoptInt(holder, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(holder, &syscall.SockaddrInet4{Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(holder)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		t.Cleanup(func() { _ = syscall.Close(holder) })
	} else {
		_ = syscall.Close(holder)
	}
	return name.(*syscall.SockaddrInet4).Port
}
