package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/modfile"
)

// The default workload: go.mod and go.sum of github.com/gohugoio/hugo v0.150.0
// (Apache-2.0), byte for byte.
var (
	//go:embed workload/hugo/go.mod.txt
	hugoMod []byte
	//go:embed workload/hugo/go.sum.txt
	hugoSum []byte
)

// A workload is the main module whose dependencies are downloaded.
type workload struct {
	Name string // as printed
	Mod  []byte // go.mod
	Sum  []byte // the complete go.sum; nil if there is none
}

// loadWorkload reads the files, or returns the default one if modFile is "".
func loadWorkload(modFile, sumFile string) (workload, error) {
	if modFile == "" {
		if sumFile != "" {
			return workload{}, errors.New("--sum needs --mod")
		}
		return workload{Name: "hugo v0.150.0", Mod: hugoMod, Sum: hugoSum}, nil
	}
	mod, err := os.ReadFile(modFile)
	if err != nil {
		return workload{}, err
	}
	w := workload{Name: modfile.ModulePath(mod), Mod: mod}
	if w.Name == "" {
		return workload{}, fmt.Errorf("%s: no module line", modFile)
	}
	if sumFile != "" {
		w.Sum, err = os.ReadFile(sumFile)
	}
	return w, err
}
