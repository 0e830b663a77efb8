// Package smoke tries the built cluster program from outside, as the
// end-to-end suite uses it. Run ../build.sh first.
package smoke

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const program = "../bin/cluster"

// patience is how long something may take that is waited for: much longer than
// ever seen, for the machine may be loaded.
const patience = 5 * time.Minute

// running is a cluster and the two ends of its conversation.
type running struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Scanner
	ready   struct {
		Kubeconfig, Server, Version, Dir string
		Registry                         string
		Nodes                            []string
		PID                              int
		Parts                            []struct {
			Name, Program, Log string
			PID                int
		}
	}
	client *kubernetes.Clientset
}

// start runs command, which ends in `cluster up` in dir, until the test ends.
func start(t *testing.T, command *exec.Cmd) *running {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run build.sh first", err)
	}
	r := &running{command: command}
	var err error
	if r.input, err = command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.input.Close()
		_ = command.Wait()
	})
	r.output = bufio.NewScanner(output)
	if !r.output.Scan() {
		t.Fatal("the cluster ended before it was ready")
	}
	if err := json.Unmarshal(r.output.Bytes(), &r.ready); err != nil {
		t.Fatalf("%s: %v", r.output.Text(), err)
	}
	if r.client, err = kubernetes.NewForConfig(r.config(t)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) config(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", r.ready.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func up(t *testing.T, flags ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"up", "--dir", filepath.Join(t.TempDir(), "cluster")}, flags...)...)
}

type answer struct {
	OK       bool
	Error    string
	Revision int64
}

// say sends one command and returns the answer to it.
func (r *running) say(t *testing.T, command string) answer {
	t.Helper()
	if _, err := io.WriteString(r.input, command+"\n"); err != nil {
		t.Fatal(err)
	}
	if !r.output.Scan() {
		t.Fatalf("no answer to %q", command)
	}
	var given answer
	if err := json.Unmarshal(r.output.Bytes(), &given); err != nil {
		t.Fatalf("%s: %v", r.output.Text(), err)
	}
	return given
}

func (r *running) mustSay(t *testing.T, command string) answer {
	t.Helper()
	given := r.say(t, command)
	if !given.OK {
		t.Fatalf("%s: %s", command, given.Error)
	}
	return given
}

// eventually waits for something that the controllers do in their own time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s", patience, what)
}
