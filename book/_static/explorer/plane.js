// <vae-plane> and <cvae-plane>: the latent plane, with the picture that the decoder draws where you point.
//   <vae-plane weights="vae-2d" z="0 0"></vae-plane>
//   <cvae-plane weights="cvae-2d" z="0 0" label="4"></cvae-plane>
"use strict";

(() => {
	const { fixed, REACH, SCALE, BOX, STEPS, percent, insidePrior } = explorer;
	const NEAR = 25; // codes that say what lives around a point
	const CROSS = 'd="M-30 0H-14M14 0H30M0 -30V-14M0 14V30"';

	const place = (z, digits = 2) => `(${fixed(z[0], digits)}, ${fixed(z[1], digits)})`;
	const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);

	class Plane extends explorer.Element {
		build() {
			this.z = (this.getAttribute("z") ?? "0 0").split(" ").map(Number);
			this.code = null; // the one chosen among the codes
			this.innerHTML = `
				<div class="sides">
					<div class="plane" tabindex="0" role="application" aria-label="${this.constructor.title}"
							 aria-describedby="${this.id}-hint">
						<svg ${BOX}>${explorer.axes()}</svg>
						<svg ${BOX} class="over">
							<g class="cursor"><ellipse class="posterior"/><path class="halo" ${CROSS}/><path ${CROSS}/></g>
						</svg>
					</div>
					<div class="read">
						<canvas class="digit" width="28" height="28" role="img" aria-label="Nothing decoded yet"></canvas>
						<dl>
							<div><dt>Code z</dt><dd class="z"></dd></div>
							<div><dt>Inside this radius</dt><dd class="share"></dd></div>
							<div><dt class="what"></dt><dd class="about"></dd></div>
						</dl>
					</div>
				</div>
				${this.constructor.more}
				<p class="help" id="${this.id}-hint">Drag, or move with the arrow keys, faster with Shift. Click a code, or
					press Enter for the nearest: you get its reconstruction, and the ellipse (2σ) that holds
					${percent(insidePrior(2))} of its posterior.</p>
				<p class="source"></p>`;
			this.listen(this.part(".plane"), this.part(".over"));
			this.say();
		}

		/** Fetch what it runs, now that it is in view. */
		start() {
			const weights = this.getAttribute("weights") ?? this.constructor.weights;
			return this.fetch(weights, ["decoder", "codes"], (decoder, { labels, numbers }) => {
				this.decoder = new explorer.MLP(decoder);
				const all = explorer.halves(numbers);
				this.codes = [...labels].map((digit, n) => {
					const [m1, m2, s1, s2] = all.subarray(4 * n, 4 * n + 4);
					return { digit: Number(digit), mean: [m1, m2], sigma: [s1, s2] };
				});
				this.scatter();
				this.move(this.z);
				return `The digits are codes of the first ${labels.length.toLocaleString("en")} test images of MNIST.`;
			});
		}

		listen(plane, drawing) {
			let pressed = null; // where, until the pointer has moved from there
			this.onDrag(plane, ({ type, clientX, clientY }) => {
				if (type === "pointerdown") pressed = [clientX, clientY];
				else if (pressed && distance(pressed, [clientX, clientY]) < 5) return; // fingers tremble
				else pressed = null;
				const point = new DOMPoint(clientX, clientY).matrixTransform(drawing.getScreenCTM().inverse());
				this.move([point.x / SCALE, -point.y / SCALE]);
			});
			plane.addEventListener("pointerup", () => pressed && this.choose(0.25));
			plane.addEventListener("keydown", (event) => {
				const step = STEPS[event.key];
				if (event.ctrlKey || event.metaKey || event.altKey) return;
				if (step) this.move(this.z.map((value, j) => value + step[j] * (event.shiftKey ? 0.5 : 0.1)));
				else if (event.key === "Home") this.move([0, 0]);
				else if (event.key === "Enter") this.choose(Infinity);
				else return;
				event.preventDefault();
			});
		}

		/** The codes that are shown, with their distances, nearest to z first. */
		nearest() {
			const all = this.shown().map((code) => ({ code, far: distance(code.mean, this.z) }));
			return all.sort((a, b) => a.far - b.far);
		}

		/** Go to the nearest code, if one is near enough, and show its reconstruction and its posterior. */
		choose(within) {
			if (!this.codes) return;
			const [{ code, far }] = this.nearest();
			if (far < within) this.move(code.mean, code);
		}

		/** Decode z at once; everything else on the page follows. */
		move(z, code = null) {
			this.z = z.map((value) => Math.min(Math.max(value, -REACH), REACH));
			this.code = code;
			if (this.decoder) this.decode();
			this.point();
			this.say();
		}

		point() {
			const [rx, ry] = this.code ? this.code.sigma : [0, 0];
			this.part(".posterior").setAttribute("rx", 2 * rx * SCALE);
			this.part(".posterior").setAttribute("ry", 2 * ry * SCALE);
			this.part(".cursor").setAttribute("transform", `translate(${this.z[0] * SCALE} ${-this.z[1] * SCALE})`);
		}

		/** Write the codes into the plane, each as its digit. */
		scatter() {
			const texts = this.shown().map(
				({ digit, mean: [z1, z2] }) =>
					`<text x="${z1 * SCALE}" y="${-z2 * SCALE}" style="--digit: ${digit}">${digit}</text>`
			);
			this.part(".codes").innerHTML = texts.join("");
		}

		/** Readings beside the picture. */
		say() {
			const set = (name, text) => (this.part(`.${name}`).textContent = text);
			set("z", place(this.z));
			set("share", `${percent(insidePrior(Math.hypot(...this.z)))} of the prior`);
			if (!this.codes) return;
			const about = this.code ? this.aboutCode() : this.aboutPlace();
			set("what", about[0]);
			set("about", about[1]);
			this.part(".digit").setAttribute("aria-label", `The picture decoded at z = ${place(this.z)}`);
			this.announce(`z ${place(this.z)}. ${about.join(": ")}.`);
		}

		aboutCode() {
			const { digit, mean, sigma } = this.code;
			const kl = explorer.klToPrior(mean[0], sigma[0]) + explorer.klToPrior(mean[1], sigma[1]);
			return [`Code of a ${digit}`, `σ = ${place(sigma, 3)}, KL to the prior ${fixed(kl)} nats`];
		}
	}

	class VaePlane extends Plane {
		static title = "Latent plane of the VAE";
		static weights = "vae-2d";
		static more = "";

		shown() {
			return this.codes;
		}

		decode() {
			this.means = this.decoder.forward(this.z).map(explorer.sigmoid);
			explorer.paint(this.part(".digit"), this.means);
		}

		/** Which digits have their codes around here. */
		aboutPlace() {
			const votes = new Map();
			for (const { code } of this.nearest().slice(0, NEAR)) votes.set(code.digit, (votes.get(code.digit) ?? 0) + 1);
			const order = [...votes].sort((a, b) => b[1] - a[1]);
			return [`${NEAR} nearest codes`, order.map(([digit, n]) => `${n} of a ${digit}`).join(", ")];
		}
	}

	customElements.define("vae-plane", VaePlane);

	const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

	class CvaePlane extends Plane {
		static title = "Latent plane of the CVAE";
		static weights = "cvae-2d";
		static more = '<fieldset class="dial"><legend>Label y, and the same z under each</legend></fieldset>';

		build() {
			this.label = Number(this.getAttribute("label") ?? 4);
			super.build();
			const dial = this.part(".dial");
			dial.insertAdjacentHTML(
				"beforeend",
				DIGITS.map(
					(digit) => `<label><input type="radio" name="${this.id}" value="${digit}">
						<canvas width="28" height="28" aria-hidden="true"></canvas><span>${digit}</span></label>`
				).join("")
			);
			this.pictures = dial.querySelectorAll("canvas");
			dial.querySelector(`[value="${this.label}"]`).checked = true;
			dial.addEventListener("change", (event) => {
				this.label = Number(event.target.value);
				if (!this.codes) return;
				this.scatter();
				this.move(this.z);
			});
		}

		/** Each label has a plane of its own: the codes of its digit, under its label. */
		shown() {
			return this.codes.filter(({ digit }) => digit === this.label);
		}

		decode() {
			const all = this.decoder.forward(this.z, DIGITS).map(explorer.sigmoid);
			const pixels = all.length / DIGITS.length;
			this.allMeans = DIGITS.map((digit) => all.subarray(digit * pixels, (digit + 1) * pixels));
			this.means = this.allMeans[this.label];
			explorer.paint(this.part(".digit"), this.means);
			this.pictures.forEach((canvas, digit) => explorer.paint(canvas, this.allMeans[digit]));
		}

		aboutPlace() {
			const [nearest] = this.nearest();
			return [`Under label ${this.label}`, `the nearest of its ${this.shown().length} codes is ${fixed(nearest.far)} away`];
		}
	}

	customElements.define("cvae-plane", CvaePlane);
})();
