package server

import "time"

// SetTimeout sets the time until calls are cut off, which is too long for tests.
func (s *Server) SetTimeout(timeout time.Duration) { s.timeout = timeout }

// SetWriteTimeout sets the time that a client has to read, for listeners that are opened afterwards.
func (s *Server) SetWriteTimeout(timeout time.Duration) { s.writeTimeout = timeout }
