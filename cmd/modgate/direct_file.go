package main

import "github.com/modgate/modgate/proxy/upstream"

// directFile is the file that direct.file names.
type directFile struct {
	Repositories []struct {
		Match string `yaml:"match"`
		URL   string `yaml:"url"`
	} `yaml:"repositories"`
	Credentials []struct {
		Match      string `yaml:"match"`
		Username   string `yaml:"username"`
		Password   string `yaml:"password"`
		SSHKey     string `yaml:"ssh_key"`
		KnownHosts string `yaml:"known_hosts"`
		Netrc      string `yaml:"netrc"`
		Helper     string `yaml:"helper"`
	} `yaml:"credentials"`
	Mercurial []string `yaml:"mercurial"`
	Networks  []string `yaml:"networks"`
}

// parseDirectFile reads the rules for private modules in data, the file called
// name. What the rules mean is checked by whom they are for.
func parseDirectFile(name string, data []byte) (upstream.Rules, error) {
	var f directFile
	if err := refuseNothing(name, data, "repositories: [] if there are to be no rules"); err != nil {
		return upstream.Rules{}, err
	}
	if err := strictYAML(name, data, &f); err != nil {
		return upstream.Rules{}, err
	}
	r := upstream.Rules{Mercurial: f.Mercurial, Networks: f.Networks}
	for _, repo := range f.Repositories {
		r.Repositories = append(r.Repositories, upstream.Repository(repo))
	}
	for _, c := range f.Credentials {
		r.Credentials = append(r.Credentials, upstream.Credential(c))
	}
	return r, nil
}
