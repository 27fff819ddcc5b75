// Elements of a page. All text enters it as text nodes, never as markup.

export const byId = (id) => document.getElementById(id);

export function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(label, action, id = "") {
  const element = make("button", "", label);
  element.type = "button";
  element.id = id;
  element.addEventListener("click", action);
  return element;
}

/** Light to dark or back, from what the page or else the system prefers. */
export function toggleTheme() {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark" ||
    (root.style.colorScheme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.style.colorScheme = dark ? "light" : "dark";
}
