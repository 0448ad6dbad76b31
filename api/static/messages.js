// Every sentence of the pages, in the visitor's language: a function where a number or a name goes in.

import de from "./messages/de.js";
import en from "./messages/en.js";
import zh from "./messages/zh.js";

const KEPT = "semblance.language";

export const languages = { en, zh, de };

export let language = first(kept(), ...navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()), "en");
export let messages = languages[language];

export function speak(tag) {
  language = tag;
  messages = languages[tag];
  document.documentElement.lang = tag;
  try {
    localStorage.setItem(KEPT, tag);
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}

// "plant_type" is shown as "Plant type", in the visitor's language where the name is a common one.
export function nameOf(attribute) {
  const words = attribute.replace(/[_-]+/g, " ").trim() || attribute;
  return messages.attributes[attribute.toLowerCase()] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function first(...tags) {
  return tags.find((tag) => Object.hasOwn(languages, tag ?? ""));
}
