// Verifies a checkpoint, an inclusion and a consistency proof with Go's own transparency log library.
// Input on stdin, as JSON: vkey, note, old_note, index, leaf, inclusion, consistency (base64 where bytes).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type input struct {
	Vkey, Note, OldNote    string
	Index                  int64
	Leaf                   []byte
	Inclusion, Consistency [][]byte
}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
}

func hashes(list [][]byte) (out []tlog.Hash) {
	for _, b := range list {
		var h tlog.Hash
		copy(h[:], b)
		out = append(out, h)
	}
	return
}

func open(text string, verifiers note.Verifiers) (string, int64, tlog.Hash) {
	opened, err := note.Open([]byte(text), verifiers)
	check(err)
	lines := strings.Split(opened.Text, "\n")
	var size int64
	fmt.Sscanf(lines[1], "%d", &size)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	return lines[0], size, root
}

func main() {
	var in input
	check(json.NewDecoder(os.Stdin).Decode(&in))
	verifier, err := note.NewVerifier(in.Vkey)
	check(err)
	verifiers := note.VerifierList(verifier)
	_, size, root := open(in.Note, verifiers)
	_, oldSize, oldRoot := open(in.OldNote, verifiers)
	check(tlog.CheckRecord(hashes(in.Inclusion), size, root, in.Index, tlog.RecordHash(in.Leaf)))
	check(tlog.CheckTree(hashes(in.Consistency), size, root, oldSize, oldRoot))
	fmt.Println("OK", size)
}
