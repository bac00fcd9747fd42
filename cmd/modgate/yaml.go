package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
)

// strictYAML decodes the file called name. Keys that v does not have, one that
// stands twice, and values of another type are errors that name line and key,
// but do not show the lines: they may hold a password.
func strictYAML(name string, data []byte, v any) error {
	tree, err := parse(data)
	if err != nil {
		return atLine(name, err)
	}
	if wrong := findWrongShape(tree, reflect.TypeOf(v).Elem()); len(wrong) > 0 {
		return keyMistakes(name, wrong)
	}
	return decodeStrict(name, data, v)
}

// decodeStrict is strictYAML that stops at the first mistake.
func decodeStrict(name string, data []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: not readable as YAML: %v", name, p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return atLine(name, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: a second document begins here: keep one document in one file", name)
	}
	return nil
}

// atLine is what the YAML library says about the file called name, with the line
// as all our messages have it.
func atLine(name string, err error) error {
	e := yaml.Error(nil)
	if !errors.As(err, &e) || e.GetToken() == nil || e.GetToken().Position == nil {
		return fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, false))
	}
	text, advice := plainWords(e.GetMessage())
	if advice != "" {
		text += "\n  → " + advice
	}
	return &yamlMistake{fmt.Sprintf("%s:%d: %s", name, e.GetToken().Position.Line, text), err}
}

var definedTwice = regexp.MustCompile(`^mapping key (".*") already defined at \[(\d+):`)

// plainWords says what the YAML library means, and what to do about it.
func plainWords(text string) (problem, advice string) {
	if m := definedTwice.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("the key %s stands here and in line %s", m[1], m[2]), "keep one of them"
	}
	for _, known := range []struct{ sign, problem, advice string }{
		{"not allowed in this context", text, "look at the indentation of this line and of the one before: keys that belong together begin in the same column; put a value that holds a colon and a space into quotes"},
		{"character '\t'", "a tab stands in front of a word", "indent with spaces"},
		{"tab character", "a tab stands in front of a key", "indent with spaces"},
		{"unexpected scalar value type", text, "put a word that begins with * into quotes: \"*.corp.example\""},
		{"undefined alias name", text, "put a word that begins with * into quotes: \"*.corp.example\""},
		{"reserved character", text, "put the value into quotes"},
		{"invalid header option", text, "put a range that begins with > into quotes: \">=v1.2.0\""},
		{"could not find end character", "a quote is opened here and not closed", "write the other one"},
		{"must be specified", text, "close what [ or { has opened"},
		{" Go ", "a value of another kind is expected here", "compare it with the manual"},
	} {
		if strings.Contains(text, known.sign) {
			return known.problem, known.advice
		}
	}
	return text, ""
}

// yamlMistake is an error of the YAML library in our words.
type yamlMistake struct {
	text  string
	cause error
}

// Error implements error.
func (m *yamlMistake) Error() string { return m.text }

// Unwrap returns what the library said.
func (m *yamlMistake) Unwrap() error { return m.cause }
