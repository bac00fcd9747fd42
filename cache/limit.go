package cache

// Space of a file system.
type Space struct {
	// Free and Total bytes; Free is what we may use.
	Free, Total int64
	// FreeFiles and TotalFiles (inodes); TotalFiles is 0 where they are not
	// limited.
	FreeFiles, TotalFiles int64
}
