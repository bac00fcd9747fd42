package cache

// Remembered is how many objects k knows to be right.
func Remembered(k *Checked) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.proven)
}
