package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Between these lines a document has the report of the last run.
const (
	beginReport = "<!-- modbench: begin -->"
	endReport   = "<!-- modbench: end -->"

	beginPrivate = "<!-- modbench private: begin -->"
	endPrivate   = "<!-- modbench private: end -->"
)

// toFile lets write fill the file called name, or stdout if name is "". What
// was written is kept even if write fails: a report says which rows failed.
func toFile(name string, stdout io.Writer, write func(io.Writer) error) error {
	if name == "" {
		return write(stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// intoFile replaces what the file called name has between two lines. A
// file without them is refused before write is called, because write may take
// an hour.
func intoFile(name, begin, end string, write func(io.Writer) error) error {
	doc, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	head, rest, ok1 := bytes.Cut(doc, []byte(begin+"\n"))
	_, tail, ok2 := bytes.Cut(rest, []byte(end+"\n"))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: no lines %s and %s", name, begin, end)
	}
	var report bytes.Buffer
	failed := write(&report)
	if report.Len() == 0 {
		return failed
	}
	out := bytes.Join([][]byte{head, []byte(begin + "\n\n"), report.Bytes(), []byte("\n" + end + "\n"), tail}, nil)
	return errors.Join(failed, os.WriteFile(name, out, 0o644))
}
