"use strict";
// The keyboard, and sending again what the ledger could not take. Everything works with the buttons alone, too.

const KEYS = {
  "1": "first", ArrowLeft: "first",
  "2": "second", ArrowRight: "second",
  "0": "tie", // no arrow: up and down scroll long responses
};
const UNREAD_MS = 300; // a key pressed earlier was meant for the pair before
let sent = false;

function send(form, button) {
  if (form && !sent) {
    sent = true;
    form.requestSubmit(button);
  }
}

function pressed(event) {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "hidden";
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || typing) return;
  if (event.key === "u") send(document.getElementById("undo"));
  const verdict = KEYS[event.key];
  const form = document.getElementById("verdict");
  if (verdict && form) {
    event.preventDefault();
    send(form, form.querySelector(`button[value="${verdict}"]`));
  }
}

window.addEventListener("pageshow", () => {
  sent = false;
  const again = document.querySelector("form[data-again-after-s]");
  if (again) setTimeout(() => send(again), 1000 * Number(again.dataset.againAfterS));
  setTimeout(() => {
    document.addEventListener("keydown", pressed);
    document.documentElement.dataset.listening = "yes";
  }, UNREAD_MS);
});
document.addEventListener("submit", () => { sent = true; });
