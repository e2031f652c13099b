// yaml.js - the YAML that openapi.yaml is written in, as plain values.
//
// A part of YAML 1.2: block and flow collections, quoted, plain and block
// scalars, comments, anchors and aliases. No tags, no merges, no documents.
// make test-web compares the whole contract with what PyYAML reads.

const number = /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i;
const words = { true: true, false: false, null: null, "~": null, "": null };

function plain(text) {
  if (Object.hasOwn(words, text)) return words[text];
  return number.test(text) ? Number(text) : text;
}

class Parser {
  constructor(text) {
    this.lines = text.split("\n");
    this.at = 0; // line
    this.anchors = {};
  }

  fail(what) {
    throw new Error(`yaml, line ${this.at + 1}: ${what}`);
  }

  // The next line that says something: {indent, text}, or null at the end.
  peek() {
    for (; this.at < this.lines.length; this.at++) {
      const line = this.lines[this.at];
      const text = line.trimStart();
      if (text && !text.startsWith("#")) return { indent: line.length - text.length, text: text.trimEnd() };
    }
    return null;
  }

  // A mapping, a list or a scalar whose first line is at this indent.
  block(indent) {
    const { text } = this.peek();
    if (text === "-" || text.startsWith("- ")) return this.list(indent);
    if (this.key(text)) return this.map(indent);
    this.at++;
    return this.value(text, indent - 1);
  }

  // "key: rest" of a line, or null.
  key(text) {
    const m = /^(?:'((?:[^']|'')*)'|"((?:[^"\\]|\\.)*)"|([^\s'"{[|>&*#-][^#]*?|-[^\s][^#]*?)):(?:\s+(.*))?$/.exec(text);
    if (!m) return null;
    const name = m[1] !== undefined ? m[1].replaceAll("''", "'") : m[2] ?? m[3];
    return { name, rest: m[4] ?? "", };
  }

  map(indent) {
    const result = {};
    for (let line; (line = this.peek()) && line.indent === indent;) {
      const entry = this.key(line.text);
      if (!entry) break;
      this.at++;
      result[entry.name] = this.value(entry.rest, indent);
    }
    const next = this.peek();
    if (next && next.indent > indent) this.fail("indented too far");
    return result;
  }

  list(indent) {
    const result = [];
    for (let line; (line = this.peek()) && line.indent === indent && /^-( |$)/.test(line.text);) {
      const rest = line.text.slice(1).trimStart();
      const column = indent + line.text.length - rest.length;
      if (rest && this.key(rest)) { // a mapping that begins in this line
        this.lines[this.at] = " ".repeat(column) + rest;
        result.push(this.map(column));
      } else {
        this.at++;
        result.push(this.value(rest, indent));
      }
    }
    return result;
  }

  // What stands behind "key:" or "-" of a parent at this indent.
  value(text, parent) {
    const anchor = /^&(\w+)\s*(.*)$/.exec(text);
    if (anchor) return this.anchors[anchor[1]] = this.value(anchor[2], parent);
    if (text === "" || text.startsWith("#")) {
      const next = this.peek();
      const deeper = next && (next.indent > parent || (next.indent === parent && /^-( |$)/.test(next.text)));
      return deeper ? this.block(next.indent) : null;
    }
    if (/^[|>][-+]?$/.test(text)) return this.scalar(text, parent);
    return this.inline(text, parent);
  }

  // | keeps line ends, > folds them; - drops the last one.
  scalar(style, parent) {
    const lines = [];
    let indent = 0;
    for (; this.at < this.lines.length; this.at++) {
      const line = this.lines[this.at];
      const width = line.length - line.trimStart().length;
      if (line.trim() && width <= parent) break;
      if (line.trim() && !indent) indent = width;
      lines.push(line.slice(indent));
    }
    while (lines.at(-1) === "") lines.pop();
    let text = lines.join("\n");
    if (style[0] === ">")
      text = text.replace(/(\n+)/g, (n) => n.length === 1 ? " " : n.slice(1));
    return style.endsWith("-") ? text : text + "\n";
  }

  // A flow value, which may go on in further, deeper lines.
  inline(text, parent) {
    this.text = text;
    this.pos = 0;
    this.parent = parent;
    const result = this.flow("");
    this.space();
    if (this.pos < this.text.length) this.fail(`unexpected '${this.text.slice(this.pos)}'`);
    return result;
  }

  space() {
    for (;;) {
      while (this.text[this.pos] === " ") this.pos++;
      if (this.text[this.pos] === "#" && (this.pos === 0 || this.text[this.pos - 1] === " "))
        this.pos = this.text.length;
      if (this.pos < this.text.length || !this.open) return;
      const next = this.peek();
      if (!next) this.fail("a bracket is not closed");
      this.at++;
      this.text = next.text;
      this.pos = 0;
    }
  }

  open = 0; // brackets

  flow(ends) {
    this.space();
    const c = this.text[this.pos];
    if (c === "{" || c === "[") return this.collection(c);
    if (c === '"' || c === "'") return this.quoted(c);
    const from = this.pos;
    for (; this.pos < this.text.length; this.pos++) {
      const rest = this.text.slice(this.pos);
      if (ends && (ends.includes(rest[0]) || (ends.includes(":") && /^:( |$)/.test(rest)))) break;
      if (/^ #/.test(rest)) break;
    }
    let text = this.text.slice(from, this.pos).trim();
    if (!ends) text = this.continued(text);
    if (text.startsWith("*")) return this.anchors[text.slice(1)] ?? this.fail(`no anchor ${text}`);
    return plain(text);
  }

  // Plain text over several lines becomes one.
  continued(text) {
    for (let next; (next = this.peek()) && next.indent > this.parent; this.at++)
      text += " " + next.text;
    if (/: |:$/.test(text)) this.fail("a second ':'");
    return text;
  }

  quoted(mark) {
    const m = (mark === "'" ? /'((?:[^']|'')*)'/y : /"((?:[^"\\]|\\.)*)"/y);
    m.lastIndex = this.pos;
    const found = m.exec(this.text);
    if (!found) this.fail("a quote is not closed");
    this.pos = m.lastIndex;
    return mark === "'" ? found[1].replaceAll("''", "'") : JSON.parse(found[0]);
  }

  collection(open) {
    const map = open === "{";
    const close = map ? "}" : "]";
    const result = map ? {} : [];
    this.pos++;
    this.open++;
    for (this.space(); this.text[this.pos] !== close; this.space()) {
      const item = this.flow(map ? ",:}" : ",]");
      if (map) {
        this.space();
        if (this.text[this.pos] === ":") this.pos++;
        result[item] = this.text[this.pos] === "," || this.text[this.pos] === "}" ? null : this.flow(",}");
      } else {
        result.push(item);
      }
      this.space();
      if (this.text[this.pos] === ",") this.pos++;
      else if (this.text[this.pos] !== close) this.fail(`',' or '${close}' expected`);
    }
    this.pos++;
    this.open--;
    return result;
  }
}

export function parse(text) {
  const parser = new Parser(text);
  const first = parser.peek();
  const result = first ? parser.block(first.indent) : null;
  if (parser.peek()) parser.fail("not understood");
  return result;
}
