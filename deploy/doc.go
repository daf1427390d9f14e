// Package deploy tests the files that operators use: the Helm chart, the compose file, the systemd
// unit, and the rules and dashboards. It is a module of its own, because Helm and kubeconform are
// large.
//
// The tests need Go, and the Debian packages systemd, prometheus and haproxy. .ci/deploy installs
// what is missing.
package deploy

//go:generate go run ./kubernetes
