package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The outcomes of a pull.
const (
	Pulled  = "pulled"
	Refused = "refused"
	Absent  = "absent"
	Failed  = "failed"
)

// Pull is one call of a kubelet to its runtime's image service. It names the
// user and never the credential.
type Pull struct {
	Node      string    `json:"node"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	Image     string    `json:"image"`
	User      string    `json:"user"`
	Outcome   string    `json:"outcome"`
	Message   string    `json:"message,omitempty"`
	At        time.Time `json:"at"`
	Seconds   float64   `json:"seconds"`
}

// PullLog is a file with a line of JSON for each pull of one Node. A file,
// because it outlives the kubelet that writes it and the registry that reads it.
type PullLog struct{ file *os.File }

const pullLogSuffix = ".jsonl"

// OpenPullLog opens the log of a Node in a directory for all of them.
func OpenPullLog(directory, node string) (*PullLog, error) {
	file, err := os.OpenFile(filepath.Join(directory, node+pullLogSuffix), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot record the pulls of %s: %w", node, err)
	}
	return &PullLog{file}, nil
}

// Add writes a line at once: it is there when this returns.
func (l *PullLog) Add(pull Pull) error {
	line, err := json.Marshal(pull)
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(line, '\n'))
	return err
}

// pulls reads the logs of all Nodes, each line once.
type pulls struct {
	directory string

	mu    sync.Mutex
	read  map[string]int64
	known []Pull
}

// matching gives the pulls of images that begin with the prefix, by Pods of
// the namespace ("" is any), in the order in which they ended.
func (p *pulls) matching(prefix, namespace string) ([]Pull, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(p.directory, "*"+pullLogSuffix))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := p.readOn(file); err != nil {
			return nil, fmt.Errorf("cannot read the pulls in %s: %w", file, err)
		}
	}
	found := []Pull{}
	for _, pull := range p.known {
		if strings.HasPrefix(pull.Image, prefix) && (namespace == "" || pull.Namespace == namespace) {
			found = append(found, pull)
		}
	}
	slices.SortStableFunc(found, func(a, b Pull) int { return a.At.Compare(b.At) })
	return found, nil
}

// readOn takes the whole lines that a file has gained.
func (p *pulls) readOn(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	gained, err := io.ReadAll(io.NewSectionReader(file, p.read[name], 1<<62))
	if err != nil {
		return err
	}
	whole := gained[:bytes.LastIndexByte(gained, '\n')+1]
	lines := json.NewDecoder(bytes.NewReader(whole))
	for {
		var pull Pull
		if err := lines.Decode(&pull); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		p.known = append(p.known, pull)
	}
	p.read[name] += int64(len(whole))
	return nil
}
