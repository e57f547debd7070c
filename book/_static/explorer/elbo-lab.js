// <elbo-lab>: the exact model of chapter 1, with a q that you can move. z ~ N(0, 1), x | z ~ N(w z + b, s^2).
//   <elbo-lab w="2" b="1" s="1" x="3" mu="0" sigma="1"></elbo-lab>
"use strict";

(() => {
	const { fixed, klToPrior } = explorer;
	const SPAN = 4.6; // codes shown, to both sides of 0
	const HEIGHT = 240; // of the drawing, in pixels
	const FLOOR = HEIGHT - 24; // where the densities stand
	const CONTROLS = [
		{ name: "mu", text: "mean μ of q", low: -4, high: 4, step: 0.01, start: 0 },
		{ name: "sigma", text: "width σ of q", low: 0.1, high: 2.5, step: 0.01, start: 1 },
		{ name: "x", text: "observation x", low: -3, high: 5, step: 0.1, start: 3 },
		{ name: "w", text: "slope w", low: 0.5, high: 3, step: 0.1, start: 2 },
		{ name: "s", text: "noise s", low: 0.5, high: 2, step: 0.1, start: 1 },
	];
	const PEAK = 1 / Math.sqrt(2 * Math.PI); // of the standard normal density

	const density = (z, mean, sigma) => (PEAK / sigma) * Math.exp(-(((z - mean) / sigma) ** 2) / 2);
	const logDensity = (x, mean, variance) => -Math.log(2 * Math.PI * variance) / 2 - (x - mean) ** 2 / (2 * variance);

	/** Everything about the model and q, in closed form: (1.3), (1.4) and (1.10) to (1.13), in nats. */
	function exact({ mu, sigma, x, w, b, s }) {
		const variance = w * w + s * s;
		const posteriorMean = (w * (x - b)) / variance;
		const posteriorSigma = s / Math.sqrt(variance);
		const reconstruction = logDensity(x, w * mu + b, s * s) - (w * sigma) ** 2 / (2 * s * s);
		const kl = klToPrior(mu, sigma);
		return {
			posteriorMean,
			posteriorSigma,
			logEvidence: logDensity(x, b, variance),
			elbo: reconstruction - kl,
			gap: klToPrior((mu - posteriorMean) / posteriorSigma, sigma / posteriorSigma),
			reconstruction,
			kl,
		};
	}

	const bar = (parts, text) => `
		<div class="bar"><span>${text}</span><div>${parts.map((part) => `<i class="${part}"></i>`).join("")}</div></div>`;

	class ElboLab extends explorer.Element {
		build() {
			const sliders = CONTROLS.map(
				({ name, text, low, high, step, start }) => `<label><span>${text}</span><b aria-hidden="true"></b>
					<input type="range" name="${name}" min="${low}" max="${high}" step="${step}"
						value="${this.getAttribute(name) ?? start}"></label>`
			);
			this.innerHTML = `
				<div class="lab" role="img"><svg height="${HEIGHT}" aria-hidden="true"></svg></div>
				<div class="bars">
					${bar(["evidence"], "log p(x) = <b></b>")}
					${bar(["elbo", "gap"], "ELBO <b></b> + gap <b></b>")}
					${bar(["elbo", "kl"], "reconstruction <b></b> − KL <b></b>")}
					<div class="scale" aria-hidden="true"><span></span><div><i></i><i></i><i></i></div></div>
				</div>
				<form class="controls">${sliders.join("")}<button type="reset">Start again</button></form>
				<p class="help">Drag the top of q: sideways moves its mean, up makes it narrow. Or use the sliders.
					Values in nats, all exact.</p>`;
			this.lab = this.part(".lab");
			this.onDrag(this.lab, ({ clientX, clientY }) => {
				const { left, top, width } = this.lab.getBoundingClientRect();
				const height = Math.max(1 - (clientY - top) / FLOOR, 0.01) * this.top;
				this.set({ mu: ((clientX - left) / width) * 2 * SPAN - SPAN, sigma: PEAK / height });
			});
			const form = this.part("form");
			form.addEventListener("input", () => this.set());
			form.addEventListener("reset", () => setTimeout(() => this.set())); // once the sliders are back
			new ResizeObserver(() => this.set()).observe(this.lab);
		}

		start() {} // nothing to fetch

		/** Change some of the numbers; the sliders keep them in their ranges. Then show everything. */
		set(changes = {}) {
			const state = { b: Number(this.getAttribute("b") ?? 1) };
			for (const { name } of CONTROLS) {
				const input = this.part(`[name=${name}]`);
				input.value = changes[name] ?? input.value;
				state[name] = Number(input.value);
				input.previousElementSibling.textContent = fixed(state[name]);
			}
			this.values = exact(state);
			this.draw(state.mu, state.sigma);
			this.measure();
		}

		draw(mu, sigma) {
			const { posteriorMean, posteriorSigma } = this.values;
			this.top = (1.6 * PEAK) / posteriorSigma; // of the drawing: room above the posterior
			const width = this.lab.clientWidth;
			const across = (z) => ((z + SPAN) / (2 * SPAN)) * width;
			const up = (height) => FLOOR * (1 - height / this.top);
			const curve = (mean, spread) => {
				const points = Array.from({ length: 301 }, (_, i) => ((i - 150) / 150) * SPAN);
				return "M" + points.map((z) => `${across(z).toFixed(1)} ${up(density(z, mean, spread)).toFixed(1)}`).join("L");
			};
			const ticks = explorer.TICKS.map((t) => `<text x="${across(t)}" y="${HEIGHT - 6}">${fixed(t, 0)}</text>`);
			const top = Math.max(up(PEAK / sigma), 26); // in reach, though the curve may leave the drawing
			const side = posteriorMean > 1.5 ? -1 : 1; // where there is room for a name
			this.part("svg").innerHTML = `
				<path class="frame" d="M0 ${FLOOR}H${width}"/>${ticks.join("")}
				<path class="posterior" d="${curve(posteriorMean, posteriorSigma)}V${FLOOR}H0Z"/>
				<path class="q" d="${curve(mu, sigma)}"/>
				<text class="posterior" x="${across(posteriorMean + side * posteriorSigma) + 36 * side}"
					y="${up((0.65 * PEAK) / posteriorSigma)}">posterior</text>
				<circle class="q" cx="${across(mu)}" cy="${top}" r="9"/>
				<text class="q" x="${across(mu)}" y="${top - 14}">q</text>`;
			this.lab.setAttribute(
				"aria-label",
				`q is N(${fixed(mu)}, ${fixed(sigma)}²), the posterior N(${fixed(posteriorMean)}, ${fixed(posteriorSigma)}²)`
			);
		}

		/** Bars and numbers. */
		measure() {
			const { logEvidence, elbo, gap, reconstruction, kl } = this.values;
			let floor = 6; // of the bars, in nats below 0: 6, 12, 24, ...
			while (floor < -1.1 * elbo) floor *= 2;
			const ends = [[-floor, logEvidence], [-floor, elbo], [elbo, logEvidence], [-floor, elbo], [elbo, reconstruction]];
			this.querySelectorAll(".bar i").forEach(({ style }, i) => {
				const [from, to] = ends[i].map((nats) => 100 * (1 + nats / floor));
				style.left = `${from}%`;
				style.width = `${to - from}%`;
			});
			const write = (selector, values, digits) =>
				this.querySelectorAll(selector).forEach((part, i) => (part.textContent = fixed(values[i], digits)));
			write(".scale i", [-floor, -floor / 2, 0], 0);
			write(".bar b", [logEvidence, elbo, gap, reconstruction, kl]);
			this.announce(`ELBO ${fixed(elbo)}, gap ${fixed(gap)}, log p of x ${fixed(logEvidence)}.`);
		}
	}

	customElements.define("elbo-lab", ElboLab);
})();
