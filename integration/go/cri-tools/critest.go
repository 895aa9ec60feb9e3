// Package critest names what the test program sigs.k8s.io/cri-tools/cmd/critest imports, so that
// go.mod and go.sum cover it: a package of tests alone cannot be a tool.
package critest

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
