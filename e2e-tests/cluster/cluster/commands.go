package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stopGrace is what a part gets to end by itself.
const stopGrace = 20 * time.Second

// answer is the line on standard output that follows each command.
type answer struct {
	Command string `json:"command"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
	// Revision is etcd's after `compact`: nothing older can be read or watched.
	Revision int64 `json:"revision,omitempty"`
	// Seconds is how long the command took.
	Seconds float64 `json:"seconds"`
}

const knownCommands = "stop PART, kill PART, start PART, compact; PART is etcd, apiserver, controller-manager, scheduler, registry or kubelet-0 and so on"

// obey carries out one line of standard input.
func (c *cluster) obey(ctx context.Context, line string) answer {
	begun := time.Now()
	result := answer{Command: line}
	var err error
	words := strings.Fields(line)
	switch {
	case line == "compact":
		result.Revision, err = compact(ctx, c.at.etcdURL)
	case len(words) == 2:
		err = c.obeyForPart(ctx, words[0], words[1])
	default:
		err = fmt.Errorf("unknown command; known are: %s", knownCommands)
	}
	if err != nil {
		result.Error = err.Error()
	}
	result.OK = err == nil
	result.Seconds = time.Since(begun).Seconds()
	progress("%s: %v", line, map[bool]string{true: "done", false: result.Error}[result.OK])
	return result
}

func (c *cluster) obeyForPart(ctx context.Context, verb, name string) error {
	for _, part := range c.parts() {
		if strings.TrimPrefix(part.name, "kube-") != strings.TrimPrefix(name, "kube-") {
			continue
		}
		switch verb {
		case "stop":
			return part.stop(syscall.SIGTERM, stopGrace)
		case "kill":
			return part.stop(syscall.SIGKILL, stopGrace)
		case "start":
			if err := part.start(); err != nil {
				return err
			}
			return c.waitReady(ctx, part)
		}
	}
	return fmt.Errorf("unknown command; known are: %s", knownCommands)
}

// compact forgets every revision of etcd but the newest, which it makes itself:
// no client can go on from what it has seen.
func compact(ctx context.Context, url string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{url}})
	if err != nil {
		return 0, fmt.Errorf("cannot reach etcd at %s: %w", url, err)
	}
	defer client.Close()
	// The API server keeps its objects below /registry and sees no other key.
	// Twice, because a watch goes on from the revision after the one it saw:
	// that one, too, must be gone.
	var revision int64
	for range 2 {
		put, err := client.Put(ctx, "/cluster/compacted", time.Now().Format(time.RFC3339Nano))
		if err != nil {
			return 0, fmt.Errorf("cannot write to etcd: %w", err)
		}
		revision = put.Header.Revision
	}
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return 0, fmt.Errorf("cannot compact etcd: %w", err)
	}
	return revision, nil
}
