package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is one part of the cluster, which can be stopped and started again
// with the same command line.
type process struct {
	name    string
	command []string
	log     string
	// home is where it runs, and its home directory; "" is this program's.
	home string
	// works says whether it does its work.
	works probe
	// exits is told of every end, also of one that was wanted.
	exits chan<- *process

	running *exec.Cmd
	begun   time.Time
	// ended is closed when running has ended, with the outcome in result.
	ended  chan struct{}
	result error
}

// start must be called on the main thread: the kernel kills the child when the
// thread that started it ends, and that must mean "when this program ends".
func (p *process) start() error {
	if p.isRunning() {
		return fmt.Errorf("%s runs already", p.name)
	}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the log of %s: %w", p.name, err)
	}
	defer output.Close()
	command := exec.Command(p.command[0], p.command[1:]...)
	command.Stdout, command.Stderr = output, output
	if p.home != "" {
		command.Dir = p.home
		command.Env = append(os.Environ(), "HOME="+p.home)
	}
	command.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C is for the supervisor alone, which then stops the parts in order.
		Setpgid: true,
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("cannot start %s (%s): %w", p.name, p.command[0], err)
	}
	p.running, p.begun, p.ended = command, time.Now(), make(chan struct{})
	go func() {
		p.result = command.Wait()
		close(p.ended)
		p.exits <- p
	}()
	return nil
}

func (p *process) isRunning() bool {
	if p.running == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// endedByItself is false for a part that was stopped.
func (p *process) endedByItself() bool { return p.running != nil && !p.isRunning() }

// stop sends the signal and waits; a part that takes longer than grace to end
// is killed.
func (p *process) stop(signal os.Signal, grace time.Duration) error {
	if !p.isRunning() {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := p.running.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(grace):
		progress("%s did not end within %s of %s: killing it", p.name, grace, signal)
		_ = p.running.Process.Kill()
		<-p.ended
	}
	p.running = nil
	return nil
}

// failure describes a part that ended by itself, with the end of its log.
func (p *process) failure() error {
	outcome := "with success"
	if p.result != nil {
		outcome = p.result.Error()
	}
	return fmt.Errorf("%s ended by itself (%s); the end of its log:\n%s", p.name, outcome, p.logTail(20))
}

// logTail gives the last lines of the log, each cut to a readable length.
func (p *process) logTail(count int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = lines[max(0, len(lines)-count):]
	for i, line := range lines {
		if len(line) > 400 {
			line = line[:400] + "…"
		}
		lines[i] = "  " + line
	}
	return strings.Join(lines, "\n")
}
