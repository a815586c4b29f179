// Zoom and pan of the picture, and the strength of the maps. `element` is the part of the page that
// this belongs to; listeners stand on it, so that a new picture needs no new ones.
const frame = () => element.querySelector(".frame");
const state = { scale: 1, x: 0, y: 0, from: null };
const apply = () => {
  const picture = element.querySelector(".frame img");
  if (picture) picture.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.scale})`;
};
const zoom = (factor) => {
  state.scale = Math.min(12, Math.max(1, state.scale * factor));
  if (state.scale === 1) { state.x = 0; state.y = 0; }
  apply();
};
const move = (x, y) => { state.x += x; state.y += y; apply(); };
const reset = () => { state.scale = 1; state.x = 0; state.y = 0; apply(); };
element.addEventListener("click", (event) => {
  const wanted = event.target.closest("[data-zoom]");
  if (!wanted) return;
  if (wanted.dataset.zoom === "reset") reset(); else zoom(Number(wanted.dataset.zoom));
});
element.addEventListener("wheel", (event) => {
  if (!event.target.closest(".frame") || !(event.ctrlKey || event.metaKey || state.scale > 1)) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
}, { passive: false });
element.addEventListener("keydown", (event) => {
  if (!event.target.closest(".frame")) return;
  const keys = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": reset,
    ArrowLeft: () => move(30, 0), ArrowRight: () => move(-30, 0),
    ArrowUp: () => move(0, 30), ArrowDown: () => move(0, -30),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
element.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".frame") || state.scale === 1) return;
  state.from = [event.clientX, event.clientY];
  frame().setPointerCapture(event.pointerId);
});
element.addEventListener("pointermove", (event) => {
  if (!state.from) return;
  move(event.clientX - state.from[0], event.clientY - state.from[1]);
  state.from = [event.clientX, event.clientY];
});
element.addEventListener("pointerup", () => { state.from = null; });
element.addEventListener("input", (event) => {
  if (!event.target.matches(".strength-range")) return;
  for (const map of element.querySelectorAll(".heat")) map.style.opacity = event.target.value / 100;
});
