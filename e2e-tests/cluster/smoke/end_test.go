package smoke

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestNothingIsLeftBehind(t *testing.T) {
	ends := map[string]func(t *testing.T, r *running){
		"standard input closes": func(t *testing.T, r *running) { r.input.Close() },
		"SIGTERM":               func(t *testing.T, r *running) { kill(t, r.ready.PID, syscall.SIGTERM) },
		"SIGINT":                func(t *testing.T, r *running) { kill(t, r.ready.PID, syscall.SIGINT) },
		"SIGKILL":               func(t *testing.T, r *running) { kill(t, r.ready.PID, syscall.SIGKILL) },
		"a part dies":           func(t *testing.T, r *running) { kill(t, r.ready.Parts[1].PID, syscall.SIGKILL) },
	}
	for name, end := range ends {
		t.Run("when "+name, func(t *testing.T) {
			t.Parallel()
			r := start(t, up(t))
			end(t, r)
			r.mustVanish(t)
		})
	}

	t.Run("when the parent is killed and its pipe stays open", func(t *testing.T) {
		t.Parallel()
		cluster := up(t)
		// The shell is the parent; the pipe's other end is this test's.
		command := exec.Command("sh", append([]string{"-c", `exec 3<&0; "$@" <&3 & wait`, "sh"}, cluster.Args...)...)
		r := start(t, command)
		kill(t, command.Process.Pid, syscall.SIGKILL)
		r.mustVanish(t)
	})
}

func TestADirectoryThatHoldsSomethingIsRefusedAndKept(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(program, "up", "--dir", directory).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "is not empty") {
		t.Fatalf("%v: %s", err, output)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
}

func TestMissingAssetsSayWhatWasTried(t *testing.T) {
	command := up(t)
	command.Env = append(os.Environ(), "KUBEBUILDER_ASSETS="+t.TempDir())
	output, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "point it at a directory with kube-apiserver and etcd") {
		t.Fatalf("%v: %s", err, output)
	}
	if _, err := os.Stat(command.Args[3]); !os.IsNotExist(err) {
		t.Fatalf("%s is still there (%v)", command.Args[3], err)
	}
}

func TestAssetsAreUsedWhereTheyAreAndTheRestIsLinkedIn(t *testing.T) {
	own, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	assets := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver"} {
		script := "#!/bin/sh\nexec '" + own + "' " + name + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(assets, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	command := up(t)
	command.Env = append(os.Environ(), "KUBEBUILDER_ASSETS="+assets)
	r := start(t, command)
	programs := map[string]string{}
	for _, part := range r.ready.Parts {
		programs[part.Name] = part.Program
	}
	expected := map[string]string{
		"etcd":                    filepath.Join(assets, "etcd"),
		"kube-apiserver":          filepath.Join(assets, "kube-apiserver"),
		"kube-controller-manager": own,
	}
	if !maps.Equal(programs, expected) {
		t.Fatal(programs)
	}
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

func (r *running) mustVanish(t *testing.T) {
	t.Helper()
	for _, part := range r.ready.Parts {
		eventually(t, part.Name+" to end", func() bool { return syscall.Kill(part.PID, 0) == syscall.ESRCH })
	}
	eventually(t, r.ready.Dir+" to go", func() bool {
		_, err := os.Stat(r.ready.Dir)
		return os.IsNotExist(err)
	})
}
