// Command hpackgen makes bpf/include/parse/hpack_static.h: the Huffman code and the static table of HPACK (RFC 7541,
// appendices A and B) in the form in which the parser walks them. It asks golang.org/x/net/http2/hpack for both, so that
// nobody has typed them.
//
// Run it in the folder above:
//
//	go run ./hpackgen ROOT
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/net/http2/hpack"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: hpackgen ROOT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "hpackgen:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	var out bytes.Buffer
	out.WriteString(`/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Made by contrib/tools/hpackgen; do not edit. */
#pragma once
#include <linux/types.h>

`)
	huffman, err := newTree()
	if err != nil {
		return err
	}
	huffman.write(&out)
	fields, err := staticTable()
	if err != nil {
		return err
	}
	writeStatic(&out, fields)
	return os.WriteFile(filepath.Join(root, "bpf/include/parse/hpack_static.h"), out.Bytes(), 0o644)
}

// staticEntries is the number of entries of the static table.
const staticEntries = 61

// staticTable decodes an indexed field of every index. The first is 1.
func staticTable() ([]hpack.HeaderField, error) {
	block := make([]byte, 0, staticEntries)
	for i := 1; i <= staticEntries; i++ {
		block = append(block, 0x80|byte(i))
	}
	return hpack.NewDecoder(0, nil).DecodeFull(block)
}

// writeStatic writes the names and values in one text, and where each begins and how long its name and value are.
func writeStatic(out *bytes.Buffer, fields []hpack.HeaderField) {
	var text strings.Builder
	fmt.Fprintf(out, "enum {\n\tHPACK_STATIC = %d, /* entries; the first is 1 */\n};\n\n", len(fields))
	out.WriteString("/* Of each entry: where it begins in hpack_static_text, bytes of its name, bytes of its value behind it. */\n")
	out.WriteString("struct hpack_static {\n\t__u16 at;\n\t__u8 name;\n\t__u8 value;\n};\n\n")
	fmt.Fprintf(out, "static const struct hpack_static hpack_static[%d] = {\n", 64)
	for i, f := range fields {
		fmt.Fprintf(out, "\t[%d] = {%d, %d, %d}, /* %s */\n", i+1, text.Len(), len(f.Name), len(f.Value), strings.TrimSpace(f.Name+" "+f.Value))
		text.WriteString(f.Name + f.Value)
	}
	out.WriteString("};\n\n")
	size := 1
	for size < text.Len() {
		size *= 2
	}
	fmt.Fprintf(out, "enum {\n\tHPACK_STATIC_TEXT = %d,\n};\n\nstatic const __u8 hpack_static_text[HPACK_STATIC_TEXT] =\n", size)
	const line = 96
	rest := text.String()
	for len(rest) > line {
		fmt.Fprintf(out, "\t%q\n", rest[:line])
		rest = rest[line:]
	}
	fmt.Fprintf(out, "\t%q;\n", rest)
}
