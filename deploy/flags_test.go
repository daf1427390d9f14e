package deploy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the flags of the program into values.schema.json")

const variablePrefix = "MESH_GATEWAY_"

// variables returns the environment variables that commands of the program read, from their help.
func variables() (map[string]bool, error) {
	all := map[string]bool{}
	for _, command := range [][]string{{"serve"}, {"sandbox"}, {"healthcheck"}, {"store", "migrate"}} {
		found, err := variablesOf(command...)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return all, nil
}

func variablesOf(command ...string) (map[string]bool, error) {
	program, err := program()
	if err != nil {
		return nil, err
	}
	help, err := exec.Command(program, append(command, "--help")...).Output()
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, match := range regexp.MustCompile(`\[\$(`+variablePrefix+`\w+)\]`).FindAllSubmatch(help, -1) {
		found[string(match[1])] = true
	}
	return found, nil
}

// The program ignores variables that it does not know, so a setting that is misspelt would have no
// effect.
func TestEveryVariableIsThatOfAFlag(t *testing.T) {
	known, err := variables()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]string{}
	note := func(where string, text []byte) {
		for _, name := range regexp.MustCompile(variablePrefix+`[A-Z0-9_]+`).FindAll(text, -1) {
			used[string(name)] = where
		}
	}
	for _, test := range settings {
		note("chart, "+test.name, []byte(strings.Join(mustRender(t, test.values), "\n")))
	}
	for _, pattern := range []string{"compose/*.yaml", "systemd/*"} {
		for _, file := range glob(t, pattern) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			note(file, text)
		}
	}
	for name, where := range used {
		if !known[name] {
			t.Errorf("%s: no command has a flag with the variable %s", where, name)
		}
	}
}

// values.schema.json lists the flags, so that the chart refuses those that do not exist.
func TestChartKnowsTheFlags(t *testing.T) {
	known, err := variablesOf("serve")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for name := range known {
		want = append(want, strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, variablePrefix)), "_", "-"))
	}
	slices.Sort(want)

	const file = chartDir + "/values.schema.json"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)("flag": \{\s*"description": "[^"]*",\s*"enum": )(\[[^]]*\])`)
	found := list.FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no list of flags", file)
	}
	if *update {
		names, err := json.MarshalIndent(want, "      ", "  ")
		if err != nil {
			t.Fatal(err)
		}
		replacement := slices.Concat(found[1], names)
		if err := os.WriteFile(file, bytes.Replace(text, found[0], replacement, 1), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	var got []string
	if err := json.Unmarshal(found[2], &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the flags %q, and the program %q: run go -C deploy test -run TestChartKnowsTheFlags . -args -update", file, got, want)
	}
}
