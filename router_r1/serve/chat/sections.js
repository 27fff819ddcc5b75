// Splits streamed text at the four tags; a tag is never shown in part.

export class SectionReader {
  section = ""; // the kind of the block in which the text stands, empty outside of every tag
  #held = "";
  #routeTag;
  #tag;
  #tags;

  /** routeTag: the tag of a call, whose kind is "search" whatever its name. */
  constructor(routeTag) {
    const names = ["think", routeTag, "information", "answer"];
    this.#routeTag = routeTag;
    this.#tag = new RegExp(`<(/?)(${names.join("|")})>`, "g");
    this.#tags = names.flatMap((name) => [`<${name}>`, `</${name}>`]);
  }

  /** [section, text] pairs without the tags; what may be the beginning of a tag is held back. */
  push(delta) {
    const text = this.#held + delta;
    const pieces = [];
    let at = 0;
    for (const tag of text.matchAll(this.#tag)) {
      if (tag.index > at) pieces.push([this.section, text.slice(at, tag.index)]);
      this.section = tag[1] ? "" : tag[2] === this.#routeTag ? "search" : tag[2];
      at = tag.index + tag[0].length;
    }
    const rest = text.slice(at);
    const start = rest.lastIndexOf("<");
    const certain = start >= 0 && this.#tags.some((tag) => tag.startsWith(rest.slice(start))) ? start : rest.length;
    if (certain) pieces.push([this.section, rest.slice(0, certain)]);
    this.#held = rest.slice(certain);
    return pieces;
  }

  /** What was held back; text that follows stands outside of every tag. */
  end() {
    const pieces = this.#held ? [[this.section, this.#held]] : [];
    this.#held = "";
    this.section = "";
    return pieces;
  }
}
