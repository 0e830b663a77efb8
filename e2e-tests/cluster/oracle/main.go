// Command oracle answers what the kubelet would do with a docker config and an
// image name, by asking the kubelet's own code.
//
// It is a filter: one JSON request a line on standard input, one JSON answer a
// line on standard output, in the same order. README.md lists the requests.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// request holds the fields of every operation; each operation reads its own.
type request struct {
	Op      string   `json:"op"`
	Image   string   `json:"image"`
	Pattern string   `json:"pattern"`
	Secrets []secret `json:"secrets"`
	secret
}

func main() {
	// The keyring logs the entries that it skips. Those lines would name hosts,
	// and nobody reads them here.
	klog.SetLogger(logr.Discard())
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

// serve answers every line of in on out. A request that makes no sense ends
// it: a differential test must not go on with pairs that were never compared.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	answers := bufio.NewWriterSize(out, 1<<20)
	encoder := json.NewEncoder(answers)
	encoder.SetEscapeHTML(false)
	for number := 1; ; number++ {
		line, readError := lines.ReadBytes('\n')
		if readError != nil && !errors.Is(readError, io.EOF) {
			return fmt.Errorf("cannot read line %d: %w", number, readError)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			reply, err := answer(line)
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if err := encoder.Encode(reply); err != nil {
				return fmt.Errorf("cannot answer line %d: %w", number, err)
			}
		}
		if readError != nil {
			return answers.Flush()
		}
		// Whoever asks one question at a time waits for the answer before the
		// next; whoever sends a batch gets large writes.
		if lines.Buffered() == 0 {
			if err := answers.Flush(); err != nil {
				return fmt.Errorf("cannot answer line %d: %w", number, err)
			}
		}
	}
}

func answer(line []byte) (any, error) {
	var asked request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return nil, fmt.Errorf("not a request: %w", err)
	}
	switch asked.Op {
	case "lookup":
		secrets := asked.Secrets
		if secrets == nil {
			secrets = []secret{asked.secret}
		}
		return lookup(secrets, asked.Image)
	case "matchImages":
		return matchImages(asked.Pattern, asked.Image), nil
	case "normalize":
		return normalize(asked.Image), nil
	default:
		return nil, fmt.Errorf("unknown op %q: use lookup, matchImages or normalize", asked.Op)
	}
}
