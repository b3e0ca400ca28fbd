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
    history.replaceState(null, "", this.link(this.view));
  }

  /** The address of a view of the same model, with all that was chosen and some changes. */
  link(view, changes = {}) {
    return address(this.model, view, { ...Object.fromEntries(this.params), ...changes });
  }
}

/** The address of a view of a model. */
export function address(model, view = "", params = {}) {
  const query = new URLSearchParams(params).toString().replaceAll("%2C", ",");
  return `#/${encodeURIComponent(model)}${view && `/${view}`}${query && `?${query}`}`;
}
