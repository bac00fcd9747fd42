package tlsmgr

import (
	"net"
	"net/http"
	"strings"
)

// Redirect answers every request with 308 to the same URL over HTTPS on port,
// which is left out if it is 443. Another method stays what it is, and so does
// the path byte by byte. A client is sent only to the host that it asked for.
func Redirect(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if host == "" || strings.ContainsAny(host, "/\\@?# \t\r\n") {
			http.Error(w, "this port only redirects to HTTPS, and the request names no host", http.StatusBadRequest)
			return
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if port != "443" {
			host += ":" + port
		}
		uri := r.RequestURI
		if !strings.HasPrefix(uri, "/") { // a whole URL, as to a forward proxy
			uri = r.URL.RequestURI()
		}
		target := "https://" + host + uri
		w.Header().Set("Location", target)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusPermanentRedirect)
		if r.Method != http.MethodHead {
			w.Write([]byte("This server speaks HTTPS: " + target + "\n"))
		}
	})
}
