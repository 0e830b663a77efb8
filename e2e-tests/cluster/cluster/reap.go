package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const reapSubcommand = "reap"

// reaper is a process of its own that removes the cluster's directory when this
// program has ended, however it ended: by a return, a panic or SIGKILL.
type reaper struct {
	command *exec.Cmd
	// open is held until the directory is to go.
	open io.Closer
}

func startReaper(dir string) (*reaper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program's own file: %w", err)
	}
	command := exec.Command(self, reapSubcommand, dir)
	command.Stderr = os.Stderr
	// A session of its own, out of reach of Ctrl-C and of a kill of the group.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	open, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot open a pipe to the process that cleans up: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the process that cleans up: %w", err)
	}
	return &reaper{command, open}, nil
}

// finish returns when the directory is gone.
func (r *reaper) finish() error {
	r.open.Close()
	return r.command.Wait()
}

// reap waits for the supervisor's end and removes the directory. The parts die
// at that moment too, but may still write for an instant: so it tries again.
func reap(arguments []string) int {
	if len(arguments) != 1 {
		fmt.Fprintln(os.Stderr, "cluster: reap needs one directory; it is `cluster up` that runs it")
		return 2
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	var err error
	for range 100 {
		if err = os.RemoveAll(arguments[0]); err == nil {
			return 0
		}
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "cluster: cannot remove %s: %v\n", arguments[0], err)
	return 1
}
