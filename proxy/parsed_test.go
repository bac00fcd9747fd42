package proxy

import (
	"fmt"
	"testing"
)

// TestParsedIsParse asks often enough that every place was taken by several.
func TestParsedIsParse(t *testing.T) {
	t.Parallel()
	p := newParsed()
	for range 2 {
		for i := range 20_000 {
			path := fmt.Sprintf("example.com/m%d/@v/v1.0.%d.mod", i, i)
			if i%7 == 0 {
				path = fmt.Sprintf("example.com/m%d/@v/bad", i)
			}
			got, gotErr := p.parse(path)
			want, wantErr := parse(path)
			if got != want || (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("%s: got %v, %v, want %v, %v", path, got, gotErr, want, wantErr)
			}
		}
	}
}
