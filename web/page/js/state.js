// What is shown, in the address: #/MODEL/VIEW?key=value. A link or a reload shows the same again.

export class State {
  constructor(hash = location.hash) {
    const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
    [this.model = "", this.view = ""] = path.split("/").map(decodeURIComponent);
    this.params = new URLSearchParams(query);
  }

  get(key) {
    return this.params.get(key);
  }

  /** Set a parameter, or remove it (null), without a step in the history. */
  set(key, value) {
    if (value === null) this.params.delete(key);
    else this.params.set(key, value);
    history.replaceState(null, "", this.hash);
  }

  get hash() {
    const query = this.params.toString().replaceAll("%2C", ",");
    return address(this.model, this.view) + (query && `?${query}`);
  }
}

/** The address of a view of a model. */
export function address(model, view = "") {
  return `#/${encodeURIComponent(model)}${view && `/${view}`}`;
}
