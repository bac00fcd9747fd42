// Package doctor finds out why modules cannot be had through a proxy, and says
// it in plain words, with the command that mends it: a wrong setting, a name
// that does not resolve, a port that nobody opened, a certificate that the
// machine does not trust, a clock that is wrong, an answer that is not a module.
//
// It changes nothing, prints no secret, and names no private module to a host
// that the go command would not name it to.
//
// What it can find is a closed table (Table). Each entry has a code that stays,
// so that scripts can ask for it and docs/doctor.md, which is made from the same
// table, can be searched for it.
package doctor
