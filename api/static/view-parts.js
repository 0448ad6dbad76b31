// Small pieces that several views share: icons, numbers, prices, addresses of pictures.

import { html, svg } from "./vendor/lit-html/lit-html.js";
import { language } from "./messages.js";

export const icon = (shape) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${shape}</svg>`;

export const magnifier = svg`<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>`;
export const camera = svg`<path d="M4 8h3l1.6-2.5h6.8L17 8h3v11H4z"/><circle cx="12" cy="13" r="3.5"/>`;
export const frame = svg`<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><circle cx="9" cy="10" r="1.6"/><path d="m4 17 5-4.5 3.5 3 3.5-3.5 4 4"/>`;
export const sheet = svg`<path d="M6 3.5h8l4 4v13H6zM14 3.5v4h4M9 12h6M9 16h6"/>`;
export const cross = svg`<path d="m6.5 6.5 11 11m0-11-11 11"/>`;
export const sliders = svg`<path d="M4 7h9m5 0h2M4 17h2m5 0h9"/><circle cx="15.5" cy="7" r="2.5"/><circle cx="8.5" cy="17" r="2.5"/>`;
export const padlock = svg`<rect x="5" y="11" width="14" height="9" rx="2"/><path d="M8 11V8a4 4 0 0 1 8 0v3"/>`;
export const brush = svg`<path d="M14 6.5 18.5 11 9 20.5H4.5V16zM12 8.5l4.5 4.5"/>`;
export const microphone = svg`<rect x="9" y="3.5" width="6" height="11" rx="3"/><path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3"/>`;

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export function percent(share) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(Math.min(share, 0.99));
}

// A picture of this server in the size that is shown.
export function sized(address, side) {
  return address.startsWith("/v1/") ? `${address}${address.includes("?") ? "&" : "?"}size=${side}` : address;
}

const SYMBOLS = { "€": "EUR", $: "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW" };

// A currency is an attribute of its own: a code, or the sign that stood before the number in the feed.
export function priceOf(attributes) {
  if (typeof attributes.price !== "number") return "";
  const given = attributes.currency ?? attributes.price_currency ?? attributes.priceCurrency;
  const currency = SYMBOLS[given] ?? given;
  if (typeof currency === "string" && /^[A-Za-z]{3}$/.test(currency)) {
    return new Intl.NumberFormat(language, { style: "currency", currency, currencyDisplay: "narrowSymbol" }).format(attributes.price);
  }
  return number(attributes.price, 2);
}
