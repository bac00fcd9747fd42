package doctor

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
)

// WriteBundle writes a zip archive for a ticket: the report for people and for
// machines, and the certificates that servers have sent. Like the report it has
// no secrets. It does have names of hosts and of the module that was asked for.
// about says which program made it.
func (r *Report) WriteBundle(w io.Writer, about string) error {
	var text, data bytes.Buffer
	if err := r.WriteText(&text, false); err != nil {
		return err
	}
	if err := r.WriteJSON(&data); err != nil {
		return err
	}
	archive := zip.NewWriter(w)
	for _, file := range []struct {
		name string
		data []byte
	}{{"report.txt", text.Bytes()}, {"report.json", data.Bytes()}, {"chain.pem", r.chain}, {"about.txt", []byte(about + "\n")}} {
		if len(file.data) == 0 {
			continue
		}
		f, err := archive.CreateHeader(&zip.FileHeader{Name: "modgate-doctor/" + file.name, Method: zip.Deflate, Modified: r.made})
		if err != nil {
			return err
		}
		if _, err := f.Write(file.data); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
	}
	return archive.Close()
}
