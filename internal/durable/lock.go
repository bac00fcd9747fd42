package durable

// A lock on an open file or directory keeps other processes out, and other
// descriptors of this one. It ends when the file is closed or the process dies,
// however it does. errors.ErrUnsupported: there are no such locks here.
