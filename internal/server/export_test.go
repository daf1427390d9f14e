package server

import "time"

// SetTimeout sets the time until calls are cut off, which is too long for tests.
func (s *Server) SetTimeout(timeout time.Duration) { s.timeout = timeout }
