package server

import "time"

// SetTimeout sets when calls are cut off, for tests that cannot wait for it.
func (s *Server) SetTimeout(timeout time.Duration) { s.timeout = timeout }
