package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// untilEnded gives a context that ends when somebody wants the cluster gone,
// with the reason as its cause, and the lines of input as they come.
//
// A parent that was killed shows in two ways: its end of the pipe closes, and
// this process is given to another parent. (The kernel's parent-death signal
// would not do: it comes when the parent's *thread* ends, and a test harness
// starts the cluster from a thread that ends with the first test.)
func untilEnded(input io.Reader) (context.Context, <-chan string) {
	ctx, end := context.WithCancelCause(context.Background())

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// A reader that went away must not end this program by SIGPIPE half-way.
	signal.Ignore(syscall.SIGPIPE)
	go func() { end(fmt.Errorf("received the signal %s", <-signals)) }()

	go func() {
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(200 * time.Millisecond)
		}
		end(errors.New("the parent process has ended"))
	}()

	commands := make(chan string)
	go func() {
		lines := bufio.NewScanner(input)
		for lines.Scan() {
			if command := strings.TrimSpace(lines.Text()); command != "" {
				commands <- command
			}
		}
		end(errors.New("standard input was closed"))
	}()
	return ctx, commands
}
