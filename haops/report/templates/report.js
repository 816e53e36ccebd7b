// Read-out under the pointer or the arrow keys. The report says the same without it.
(function () {
  "use strict";
  function ms(v) {
    if (v === null) { return "\u2013"; }
    if (v >= 999.5) { return (v / 1000).toFixed(v < 9995 ? 2 : 1) + " s"; }
    return v.toFixed(v < 9.95 ? 1 : 0) + " ms";
  }
  function rate(v) { return v.toLocaleString("en", { maximumFractionDigits: 1 }) + "/s"; }
  document.querySelectorAll("figure.timeline").forEach(function (figure) {
    var data = JSON.parse(figure.dataset.readout), out = figure.querySelector(".readout");
    if (!data.edges) { return; }
    var LEFT = data.margins[0], RIGHT = data.margins[1];
    var count = data.writes.length, end = data.edges[count];
    // Room is kept from the beginning, so that nothing jumps when the words appear.
    out.hidden = false;
    out.textContent = "Point at the figure, or focus it and use the arrow keys, to read values.";
    function show(svg, index) {
      var i = Math.max(0, Math.min(count - 1, index)), width = svg.viewBox.baseVal.width;
      var at = (data.edges[i] + data.edges[i + 1]) / 2, x = LEFT + at / end * (width - LEFT - RIGHT);
      var cursor = svg.querySelector(".cursor");
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      svg.classList.add("pointed");
      out.classList.add("live");
      svg.dataset.index = i;
      var since = data.fault === null ? "" : " (" + (at < data.fault ? "\u2212" : "+") + Math.abs(at - data.fault).toFixed(2) + " s from the fault)";
      out.textContent = at.toFixed(2) + " s" + since + ": writes " + rate(data.writes[i]) + ", reads " + rate(data.reads[i]) +
        ", failed " + rate(data.failed[i]) + ", p99 " + ms(data.p99[i]);
    }
    figure.querySelectorAll("svg.plot").forEach(function (svg) {
      svg.setAttribute("tabindex", "0");
      svg.addEventListener("pointermove", function (event) {
        var box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
        var x = (event.clientX - box.left) * width / box.width;
        show(svg, Math.floor((x - LEFT) / (width - LEFT - RIGHT) * count));
      });
      svg.addEventListener("pointerleave", function () { svg.classList.remove("pointed"); });
      svg.addEventListener("blur", function () { svg.classList.remove("pointed"); out.setAttribute("aria-live", "off"); });
      svg.addEventListener("focus", function () { out.setAttribute("aria-live", "polite"); });
      svg.addEventListener("keydown", function (event) {
        var step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
        if (step) { event.preventDefault(); show(svg, Number(svg.dataset.index || 0) + step * (event.shiftKey ? 10 : 1)); }
      });
    });
  });
  // Closed details would be missing on paper; they are closed again afterwards.
  var opened = [];
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (d) { d.open = true; opened.push(d); });
  });
  window.addEventListener("afterprint", function () { opened.splice(0).forEach(function (d) { d.open = false; }); });
  // A link to a trial must not end at a closed one.
  function reveal() {
    var target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") { target.open = true; }
  }
  window.addEventListener("hashchange", reveal);
  reveal();
})();
