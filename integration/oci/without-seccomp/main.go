// without-seccomp stands before the runtime under test: it takes linux.seccomp out of a
// configuration before `create` and leaves the rest to $RUNTIME_UNDER_TEST. The validation's
// default configuration has a filter, which skiff-oci refuses as long as it cannot apply one;
// without this program nothing else would be checked.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "without-seccomp:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if slices.Contains(args, "create") {
		bundle := "."
		if at := slices.Index(args, "--bundle"); at >= 0 && at+1 < len(args) {
			bundle = args[at+1]
		}
		if err := strip(filepath.Join(bundle, "config.json")); err != nil {
			return err
		}
	}
	runtime := os.Getenv("RUNTIME_UNDER_TEST")
	return syscall.Exec(runtime, append([]string{runtime}, args...), os.Environ())
}

// strip rewrites the configuration, if there is one with a filter.
func strip(path string) error {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	config := map[string]any{}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil // the runtime has to say what is wrong with it
	}
	linux, ok := config["linux"].(map[string]any)
	if !ok || linux["seccomp"] == nil {
		return nil
	}
	delete(linux, "seccomp")
	text, err = json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
