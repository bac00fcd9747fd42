package main

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// key is one leaf of Config: one line of the table that flags, environment,
// file, help and reference are made from.
type key struct {
	name   string // path of the tags, "cache.max_size"
	def    string
	doc    string
	oneof  []string // the accepted values, where they are a closed set
	secret bool     // may be a file: reference, and credentials in URLs are not shown
	hidden bool     // nothing of it is shown
	url    bool     // one URL, whose credentials may hold what separates those of a list
	index  []int    // of the field in Config
}

// keys returns the table, in the order of the struct.
func keys() []key { return appendKeys(nil, reflect.TypeFor[Config](), "", nil) }

func appendKeys(table []key, t reflect.Type, prefix string, index []int) []key {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("key")
		if tag == "" {
			continue
		}
		path := append(index[:len(index):len(index)], i)
		doc, isLeaf := f.Tag.Lookup("doc")
		if !isLeaf {
			table = appendKeys(table, f.Type, prefix+tag+".", path)
			continue
		}
		table = append(table, key{
			name:   prefix + tag,
			def:    f.Tag.Get("default"),
			doc:    doc,
			oneof:  strings.Fields(f.Tag.Get("oneof")),
			secret: f.Tag.Get("secret") != "",
			hidden: f.Tag.Get("secret") == "hidden",
			url:    f.Tag.Get("secret") == "url",
			index:  path,
		})
	}
	return table
}

// flag returns the name of the key's flag, without dashes.
func (k key) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.name) }

// env returns the name of the key's environment variable.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// kind names the type of the value in help texts.
func (k key) kind() string {
	switch reflect.TypeFor[Config]().FieldByIndex(k.index).Type {
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Count]():
		return "number"
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[List]():
		return "list"
	}
	return "string"
}

// set parses raw into the field of c that the key stands for.
func (k key) set(c *Config, raw string) error {
	v := reflect.ValueOf(c).Elem().FieldByIndex(k.index)
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(raw))
	}
	raw = strings.TrimSpace(raw)
	if same := map[string]string{"true": "on", "false": "off", "on": "true", "off": "false"}[raw]; len(k.oneof) == 2 && oneOf(same, k.oneof) {
		raw = same
	}
	if !oneOf(raw, k.oneof) {
		return remedied("is not one of "+strings.Join(k.oneof, ", "), "write one of them")
	}
	v.SetString(raw)
	return nil
}

func oneOf(s string, set []string) bool {
	for _, v := range set {
		if s == v {
			return true
		}
	}
	return len(set) == 0
}

// text returns the value of the key in c as set accepts it.
func (k key) text(c *Config) string {
	return fmt.Sprint(reflect.ValueOf(c).Elem().FieldByIndex(k.index).Interface())
}

// shown returns the value as people may see it: without credentials.
func (k key) shown(c *Config) string { return k.hide(k.text(c)) }

// hide returns what people may see of a value of the key.
func (k key) hide(value string) string {
	switch {
	case k.hidden && value != "":
		return "hidden"
	case k.url:
		return regexp.MustCompile(`://.*@`).ReplaceAllString(value, "://hidden@")
	}
	return hideUserinfo(value)
}

// hideUserinfo replaces user and password of every URL in s: a single user
// name is often a token.
func hideUserinfo(s string) string {
	return regexp.MustCompile(`://[^/\s,|]*@`).ReplaceAllString(s, "://hidden@")
}

// remedy is an error that says what to do about it.
type remedy struct{ problem, advice string }

func (r *remedy) Error() string { return r.problem + ": " + r.advice }

func remedied(problem, advice string) error { return &remedy{problem, advice} }
