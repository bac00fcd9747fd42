package upstream

// Check reports all mistakes in r, without secrets. private are the patterns
// (as in GOPRIVATE) that it is for.
func (r Rules) Check(private string) error {
	_, err := r.check(private)
	return err
}
