package doctor

import (
	"fmt"
	"strings"
)

const markdownHead = `# modgate doctor

On a machine whose builds fail:

    modgate doctor                                       what the go command here is set to
    modgate doctor https://modgate.corp.example          one proxy
    modgate doctor https://modgate.corp.example github.com/foo/bar@v1.2.3

On the machine of a server, as its user, with the configuration file, environment and
flags of modgate serve:

    modgate doctor --server
    modgate doctor --server git.corp.example/team/repo   also look for a private module as the server does
    modgate doctor --server --probe                      also answer a made-up challenge, and look for it as a CA would
    modgate doctor --server --staging                    also order from a CA for trials, and throw it away

The first form finds out why modules cannot be had and says what mends it:
settings, name resolution, connection, certificates, clock, HTTP, the module
protocol, the checksum database, speed. The second looks at configuration, files,
space, clock, upstreams, the hosts of private modules, certificates and the CA,
and asks a running server what it knows. Neither prints a secret, or names a
private module to a host that the go command or the server would not name it to.

Neither changes anything, unless it is asked to. ` + "`--probe`" + ` lets the running
server answer a challenge that no CA has asked for (or answers it, if no server
runs), or has the DNS provider make a TXT record, measures how long that takes to
be seen, and takes it back. ` + "`--staging`" + ` goes through a whole order at a CA for
trials: that of Let's Encrypt, or the directory that ` + "`--staging=URL`" + ` names. The account
that it registers there is in memory alone; those of the server, its certificates
and its limits are not touched.

| exit status | meaning |
| --- | --- |
| 0 | all is well; with ` + "`--server`" + ` and no server running: all that could be checked |
| 1 | it works, but something is not as you may believe |
| 2 | modules cannot be had, or not safely; or the command line has a mistake |

` + "`--json`" + ` prints the same for scripts; the codes below stay. ` + "`--bundle FILE`" + ` writes an
archive for a ticket, with the certificates that were sent.

A running server finds things by itself, and names them by the same codes: at
the end of a 5xx (` + "`cause: …`" + `), in its log (` + "`code=…`" + `, with the first handshake of each
client that fails for a reason), and in ` + "`/-/status`" + ` of the admin listener, whose
` + "`findings`" + ` are what is not as it should be now, or was in the last ten minutes: doctor
` + "`--server`" + ` takes them into its report.

A command is printed for where the value is from (environment, go env -w, GOROOT/go.env)
and for the shell of the system, made of what is set there.

What the go command prints is given without the module's name and the address in
front; words in braces differ from case to case. One message can have many causes:
that is what doctor is for.

`

// Markdown returns docs/doctor.md, which is made from the table of findings.
func Markdown() string {
	var b strings.Builder
	b.WriteString(markdownHead)
	symptoms(&b)
	b.WriteString("\n| code | |\n| --- | --- |\n")
	for _, e := range Table() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", e.Code, e.Code, cell(e.Title))
	}
	for _, e := range Table() {
		fmt.Fprintf(&b, "\n## %s\n\n**%s.**\n\n", e.Code, escapeBraces(e.Title))
		if e.Symptom != "" {
			fmt.Fprintf(&b, "*go says:* `%s`\n\n", strings.Join(e.symptoms(), "` or `"))
		}
		fmt.Fprintf(&b, "%s %s\n", severityWord(e.Severity), escapeBraces(e.Cause))
		if len(e.Mend) > 0 {
			b.WriteByte('\n')
		}
		for i, m := range e.Mend {
			if m.On == Fitted || m.On == InGoroot && m.Do == e.Mend[i-1].Do {
				continue // made of what is there, or said in the line above
			}
			if m.On == Anywhere || m.On == of(unshown) {
				fmt.Fprintf(&b, "- %s\n", step(generally(m.Do)))
			} else {
				fmt.Fprintf(&b, "- %s: %s\n", strings.ReplaceAll(string(m.On), "_", " "), step(generally(m.Do)))
			}
		}
	}
	return b.String()
}

// generally fills in what the settings of a machine decide.
func generally(do string) string {
	for word, text := range generalWords() {
		do = strings.ReplaceAll(do, "{"+word+"}", text)
	}
	return do
}

// symptoms writes a table of what the go command prints.
func symptoms(b *strings.Builder) {
	b.WriteString("| go says | look at |\n| --- | --- |\n")
	codes := map[string][]string{}
	var order []string
	for _, e := range Table() {
		for _, text := range e.symptoms() {
			if codes[text] == nil {
				order = append(order, text)
			}
			codes[text] = append(codes[text], fmt.Sprintf("[%s](#%s)", e.Code, e.Code))
		}
	}
	for _, text := range order {
		fmt.Fprintf(b, "| `%s` | %s |\n", text, strings.Join(codes[text], ", "))
	}
}

// commands are the programs that remedies call.
const commands = " go unset export sudo apk apt-get dnf openssl ls cat chmod df ping ip modgate kubectl docker getent dscacheutil scutil certutil w32tm date install "

// step writes a remedy; a command in it as code.
func step(do string) string {
	command, note, noted := strings.Cut(do, "   (")
	if word, _, _ := strings.Cut(command, " "); !strings.Contains(commands, " "+word+" ") || strings.Contains(command, ", and ") {
		return escapeBraces(do)
	}
	if noted {
		return "`" + command + "` (" + escapeBraces(note)
	}
	return "`" + command + "`"
}

func severityWord(s Severity) string {
	switch s {
	case Fail:
		return "Fails."
	case Warn:
		return "A warning."
	default:
		return "A note."
	}
}

// cell protects what ends the cell of a table.
func cell(s string) string { return strings.ReplaceAll(escapeBraces(s), "|", `\|`) }

// escapeBraces keeps placeholders, and what looks like HTML or emphasis, as text.
func escapeBraces(s string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`).Replace(s)
}
