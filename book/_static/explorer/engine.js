// What the live elements of the pages share: numbers that arrive by script, networks, pictures and manners.
"use strict";

const explorer = (() => {
	// ---- Files: scripts, because a page opened from a file may load those but fetch nothing ----

	const home = new URL("weights/", document.currentScript.src);
	const delivered = {};
	const asked = {};

	/** What a script file calls with its content. */
	function deliver(name, content) {
		delivered[name] = content;
	}

	/** A promise of the content of `weights/NAME.js`. However often a page asks, the file is loaded once. */
	function file(name) {
		asked[name] ??= new Promise((resolve, reject) => {
			const script = document.createElement("script");
			script.src = new URL(`${name}.js`, home);
			script.onload = () => resolve(delivered[name]);
			script.onerror = () => reject(new Error(`${name}.js could not be loaded.`));
			document.head.append(script);
		});
		return asked[name];
	}

	// ---- Networks ----

	/** All that computes. It uses nothing from outside, so that a Worker can run the text of this function. */
	function arithmetic() {
		/** Base64 of little-endian 16-bit floats, as Float32Array. */
		function halves(base64) {
			const bytes = atob(base64);
			const bits = new Uint32Array(bytes.length / 2);
			for (let i = 0; i < bits.length; i++) {
				const half = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
				bits[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13);
			}
			// The same bits mean an exponent that is 112 lower in a 32-bit float, for subnormal numbers too.
			return new Float32Array(bits.buffer).map((value) => value * 2 ** 112);
		}

		// cvae_lib.networks.MLP

		const ACTIVATIONS = {
			relu: (a) => (a > 0 ? a : 0),
			tanh: Math.tanh,
			silu: (a) => a / (1 + Math.exp(-a)),
		};

		class MLP {
			/** From what `cvae_lib.course.export.network` writes. */
			constructor({ sizes, labels, activation, numbers }) {
				this.activation = ACTIVATIONS[activation];
				const all = halves(numbers);
				let at = 0;
				const next = (count) => all.subarray(at, (at += count));
				this.layers = sizes.slice(1).map((width, l) => ({
					width,
					weight: next(sizes[l] * width),
					bias: next(l === 0 && labels ? labels * width : width),
				}));
				this.inputs = sizes[0];
			}

			/**
			 * The outputs for some rows of inputs, each with its label; row after row in one Float64Array.
			 * A single row with several labels stands for that row under each: its first product is computed once.
			 */
			forward(inputs, labels = null) {
				let rows = inputs.length / this.inputs;
				let h = inputs;
				this.layers.forEach(({ width, weight, bias }, l) => {
					const products = multiply(l ? h.map(this.activation) : h, weight, rows, width);
					const next = rows === 1 ? 0 : width;
					const biases = l === 0 && labels ? labels : Array(rows).fill(0);
					rows = biases.length;
					h = new Float64Array(rows * width);
					biases.forEach((which, row) => {
						for (let j = 0; j < width; j++) h[row * width + j] = products[row * next + j] + bias[which * width + j];
					});
				});
				return h;
			}
		}

		/** X W for a matrix X of some rows. An input that is 0, as after many a ReLU, costs nothing. */
		function multiply(x, weight, rows, width) {
			const inputs = x.length / rows;
			const sums = new Float64Array(rows * width);
			for (let row = 0; row < rows; row++) {
				const values = [];
				const starts = [];
				for (let i = 0; i < inputs; i++) {
					const value = x[row * inputs + i];
					if (value !== 0) {
						values.push(value);
						starts.push(i * width);
					}
				}
				while (values.length % 4) {
					values.push(0);
					starts.push(0);
				}
				const sum = sums.subarray(row * width, (row + 1) * width);
				// Four inputs at once: the sums are read and written a quarter as often, which halves the time.
				for (let i = 0; i < values.length; i += 4) {
					const [a, b, c, d] = [values[i], values[i + 1], values[i + 2], values[i + 3]];
					const [p, q, r, s] = [starts[i], starts[i + 1], starts[i + 2], starts[i + 3]];
					for (let j = 0; j < width; j++) {
						sum[j] += a * weight[p + j] + b * weight[q + j] + c * weight[r + j] + d * weight[s + j];
					}
				}
			}
			return sums;
		}

		const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

		/** Bernoulli: the sum over pixels of x log m + (1 - x) log(1 - m), with m = sigmoid(logit), in nats. */
		function logLikelihood(x, logits) {
			return logits.reduce(
				(sum, logit, i) => sum + x[i] * logit - Math.max(logit, 0) - Math.log1p(Math.exp(-Math.abs(logit))),
				0
			);
		}

		/** KL from N(mean, sigma^2) to N(0, 1). */
		const klToPrior = (mean, sigma) => (mean ** 2 + sigma ** 2 - 1) / 2 - Math.log(sigma);

		return { halves, MLP, sigmoid, logLikelihood, klToPrior };
	}

	// ---- Pictures and text ----

	/** Paint grey values in [0, 1], as many as the canvas has pixels. */
	function paint(canvas, greys) {
		const context = canvas.getContext("2d");
		const image = context.createImageData(canvas.width, canvas.height);
		const pixels = new Uint32Array(image.data.buffer); // alpha, blue, green, red
		greys.forEach((grey, i) => (pixels[i] = 0xff000000 + 0x010101 * Math.round(255 * grey)));
		context.putImageData(image, 0, 0);
	}

	/** A number with a fixed number of digits and a minus sign that is read as one. */
	const fixed = (value, digits = 2) => value.toFixed(digits).replace(/^-0(\.0*)?$/, "0$1").replace("-", "−");

	const TICKS = [-4, -3, -2, -1, 0, 1, 2, 3, 4]; // along a latent axis

	// ---- The latent plane ----

	const REACH = 4.4; // of the plane shown, in both directions
	const SCALE = 100; // units of the drawing per unit of z: not every browser draws text smaller than one
	const BOX = 'viewBox="-485 -460 945 955" aria-hidden="true"'; // room for the plane and its ticks
	const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

	const percent = (share) => `${(100 * share).toFixed(1)} %`;
	const insidePrior = (radius) => 1 - Math.exp((-radius * radius) / 2);

	/** Frame, ticks, room for codes, and circles of the prior. */
	function axes() {
		const edge = REACH * SCALE;
		const ticks = TICKS.map(
			(t) => `<text x="${t * SCALE}" y="${edge + 32}">${fixed(t, 0)}</text>
							<text x="${-edge - 24}" y="${-t * SCALE}">${fixed(t, 0)}</text>`
		);
		const circles = [1, 2, 3].map(
			(r) => `<circle class="prior" r="${r * SCALE}"/>
							<text class="halo" y="${-r * SCALE}">${percent(insidePrior(r))}</text>`
		);
		return `<rect class="frame" x="${-edge}" y="${-edge}" width="${2 * edge}" height="${2 * edge}"/>
			${ticks.join("")}
			<text x="${edge}" y="${edge + 32}">z₁</text><text x="${-edge - 24}" y="${-edge}">z₂</text>
			<g class="codes"></g>${circles.join("")}`;
	}

	// ---- Manners ----

	let count = 0;

	class Element extends HTMLElement {
		connectedCallback() {
			if (this.status) return; // it was only moved
			this.id ||= `explorer-${++count}`;
			this.build(); // in place of the text for readers without scripts
			this.insertAdjacentHTML("beforeend", '<p class="unseen" role="status"></p>');
			this.status = this.lastElementChild;
			const seen = new IntersectionObserver((entries) => {
				if (!entries.some((entry) => entry.isIntersecting)) return;
				seen.disconnect();
				this.start();
			});
			seen.observe(this);
		}

		/** Fetch parts of some weights and use them; the last line says which, and what use(...) adds, or what failed. */
		async fetch(weights, parts, use) {
			const source = this.part(".source");
			source.textContent = `Loading the weights ${weights} …`;
			try {
				const contents = await Promise.all(parts.map((part) => file(`${weights}.${part}`)));
				source.innerHTML = `Uses <code>${weights}</code>, 16-bit weights,
					SHA-256 <code>${contents[0].sha256.slice(0, 12)}</code> and so on. ${use(...contents)}`;
			} catch (error) {
				source.textContent = `This element cannot run: ${error.message}`;
			}
		}

		/** Tell screen readers, once things have come to rest, and only those who are here. */
		announce(text) {
			clearTimeout(this.announcement);
			if (!this.contains(document.activeElement)) return;
			this.announcement = setTimeout(() => (this.status.textContent = text), 600);
		}

		/** Call follow(event) while a pointer is pressed on a part and wherever it goes until it is lifted. */
		onDrag(part, follow) {
			part.addEventListener("pointerdown", (event) => {
				if (event.button !== 0) return;
				part.setPointerCapture(event.pointerId);
				follow(event);
			});
			part.addEventListener("pointermove", (event) => part.hasPointerCapture(event.pointerId) && follow(event));
		}

		part(selector) {
			return this.querySelector(selector);
		}
	}

	const plane = { TICKS, REACH, SCALE, BOX, STEPS, percent, insidePrior, axes };
	return { deliver, arithmetic, ...arithmetic(), paint, fixed, ...plane, Element };
})();
