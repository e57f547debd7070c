// <digit-classifier>: draw a digit, and watch a generative classifier read it.
//   <digit-classifier weights="cvae-50d" draws="1"></digit-classifier>
"use strict";

(() => {
	const { fixed, paint, SCALE } = explorer;
	const WEIGHTS = "cvae-50d"; // what runs first
	const PLANE = "cvae-2d"; // what can be chosen instead, to look at its codes
	const SIDE = 28; // of MNIST's frame, in pixels
	const INNER = 20; // of the box that a digit fills
	const MIDDLE = 14; // the row and the column where MNIST has the centre of mass, counted from 0
	const PEN = 2.6; // width of a stroke in the frame
	const PAD = 280; // side of the pad, in pixels
	const LETTERS = {
		A: [[[60, 220], [140, 60], [220, 220]], [[90, 165], [190, 165]]],
		M: [[[60, 220], [60, 60], [140, 150], [220, 60], [220, 220]]],
	};

	/**
	 * cvae_lib.GenerativeClassifier with the ELBO. It uses nothing from outside: a Worker gets its text.
	 * The image is x, or decoded from a sample [z, [y]]; the noise is K times as long as a code.
	 */
	function classifier({ MLP, sigmoid, logLikelihood, klToPrior }, encoder, decoder) {
		const [q, p] = [new MLP(encoder), new MLP(decoder)];
		const labels = [...Array(encoder.labels).keys()];
		const rows = (all, width) => labels.map((y) => all.subarray(y * width, (y + 1) * width));
		return ({ x, sample, noise }) => {
			x ??= p.forward(...sample).map(sigmoid);
			const posteriors = rows(q.forward(x, labels), 2 * p.inputs).map((row) => ({
				mean: row.slice(0, p.inputs),
				sigma: row.slice(p.inputs).map((logVariance) => Math.exp(logVariance / 2)),
			}));
			const scores = posteriors.map(({ mean, sigma }) => mean.reduce((sum, m, j) => sum - klToPrior(m, sigma[j]), 0));
			const means = new Float64Array(labels.length * x.length); // of the pixels, on average over the draws
			const share = p.inputs / noise.length; // 1 / K
			for (let k = 0; k < noise.length; k += p.inputs) {
				const z = posteriors.flatMap(({ mean, sigma }) => [...mean].map((m, j) => m + sigma[j] * noise[k + j]));
				const logits = p.forward(z, labels);
				logits.forEach((logit, i) => (means[i] += share * sigmoid(logit)));
				rows(logits, x.length).forEach((row, y) => (scores[y] += share * logLikelihood(x, row)));
			}
			return { x, scores, posteriors, means: rows(means, x.length) };
		};
	}

	/** The classifier in a Worker, so that the pen never waits. One question at a time. */
	function elsewhere(...networks) {
		const text = `onmessage = ({ data }) => {
			const run = (${classifier})((${explorer.arithmetic})(), ...data);
			onmessage = ({ data }) => postMessage(run(data));
		}`;
		const worker = new Worker(URL.createObjectURL(new Blob([text])));
		worker.postMessage(networks);
		return (question) => {
			worker.postMessage(question);
			return new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
		};
	}

	/** White strokes in the units of the context. */
	function ink(context, strokes, lineWidth) {
		Object.assign(context, { lineWidth, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
		context.stroke(new Path2D(strokes.map((points) => `M${points[0]}L${points.join(" ")}`).join("")));
	}

	/** Strokes as MNIST shows a digit: fitted to the box, centre of mass in the middle, grey edges. */
	function framed(strokes) {
		const context = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
		const ends = [0, 1].map((axis) => {
			const values = strokes.flat().map((point) => point[axis]);
			return [Math.min(...values), Math.max(...values)];
		});
		const scale = (INNER - PEN) / Math.max(...ends.map(([low, high]) => high - low), PAD / 5); // a dot stays a dot
		let centre = ends.map(([low, high]) => (low + high) / 2);
		let greys = new Float64Array(SIDE * SIDE);
		for (let pass = 0; strokes.length && pass < 2; pass++) {
			context.resetTransform();
			context.fillRect(0, 0, SIDE, SIDE);
			context.setTransform(scale, 0, 0, scale, ...centre.map((at) => MIDDLE + 0.5 - scale * at));
			ink(context, strokes, PEN / scale);
			const { data } = context.getImageData(0, 0, SIDE, SIDE);
			greys = greys.map((_, i) => data[4 * i] / 255);
			const sum = (weight) => greys.reduce((all, grey, i) => all + grey * weight(i), 0);
			const mass = [sum((i) => i % SIDE), sum((i) => Math.floor(i / SIDE))].map((moment) => moment / sum(() => 1));
			centre = centre.map((at, axis) => at + (mass[axis] - MIDDLE) / scale);
		}
		return greys;
	}

	const normals = (length) =>
		Array.from({ length }, () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()));
	const clamped = (value, high) => Math.min(Math.max(value, 0), high);

	class DigitClassifier extends explorer.Element {
		build() {
			const models = [...new Set([this.getAttribute("weights") ?? WEIGHTS, PLANE])];
			const each = (list, html) => list.map(html).join("");
			this.picture = `<canvas width="${SIDE}" height="${SIDE}"`;
			this.innerHTML = `
				<div class="sides">
					<div>
						<div class="pad" tabindex="0" role="application" aria-label="Pad to draw on" aria-describedby="${this.id}-hint">
							<canvas width="${PAD}" height="${PAD}"></canvas><i></i></div>
						<div class="buttons">
							${each(["clear", "sample", "letter", "noise"], (name) => `<button>${name}`)}</div>
						<div class="seen">${this.picture} role="img" aria-label="What the model sees"></canvas><span></span></div>
						<label>Weights <select>${each(models, (name) => `<option>${name}`)}</select></label>
					</div>
					<table>
						<thead><tr><th>y<th>picture<th>log p(x | y)<th>p(y | x)</thead><tbody></tbody>
					</table>
				</div>
				<p class="unusual"></p>
				<div class="histogram" aria-hidden="true"></div>
				<div class="plane" role="img" aria-label="The posterior of the code under each label: ellipses (2σ)" hidden>
					<svg ${explorer.BOX}>${explorer.axes()}</svg></div>
				<p class="help" id="${this.id}-hint">Draw with mouse or finger. On the keyboard, arrow keys move the pen, Space
					puts it down and lifts it, Delete clears. Scores are ELBOs in nats.</p>
				<p class="source"></p>`;
			Object.assign(this, { letters: 0, pen: [PAD / 2, PAD / 2] });
			this.take("Nothing drawn yet", {});
			this.listen();
		}

		/** Fetch a model and read the image with it; a sample, as long as there is none. */
		start() {
			return this.fetch(this.part("select").value, ["encoder", "decoder", "histogram"], (encoder, decoder, histogram) => {
				Object.assign(this, { model: elsewhere(encoder, decoder), codes: decoder.sizes[0], histogram });
				const { low, high, counts, images } = histogram;
				const bars = counts.map((count) => `<i style="height: ${(100 * count) / Math.max(...counts)}%"></i>`);
				this.part(".histogram").innerHTML = `${bars.join("")}<b></b>`;
				this.part(".plane").hidden = this.codes !== 2;
				if (this.x) this.ask({ x: this.x });
				else this.sample();
				return `The histogram shows ${images.toLocaleString("en")} test images of MNIST, from ${fixed(low, 0)} to ${fixed(high, 0)} nats.`;
			});
		}

		listen() {
			const pad = this.part(".pad");
			this.onDrag(pad, ({ type, clientX, clientY }) => {
				const { left, top } = pad.getBoundingClientRect();
				this.move([clientX - left, clientY - top], true, type === "pointerdown");
			});
			let down = false;
			pad.addEventListener("keydown", (event) => {
				const step = explorer.STEPS[event.key];
				if (event.ctrlKey || event.metaKey || event.altKey) return;
				if (step) this.move([this.pen[0] + 7 * step[0], this.pen[1] - 7 * step[1]], down);
				else if (event.key === " ") this.move(this.pen, (down = !down), down);
				else if (event.key === "Delete") this.clear();
				else return;
				event.preventDefault();
				pad.classList.toggle("down", down);
				if (!down) this.announce("Pen up.");
			});
			this.part(".buttons").addEventListener("click", ({ target }) => this[target.textContent]?.());
			this.part("select").addEventListener("change", () => this.start());
		}

		/** The pen moves, and draws when it is down. The first stroke replaces an image from elsewhere. */
		move(point, down, touchdown = false) {
			this.pen = point.map((at) => clamped(at, PAD));
			this.part(".pad i").style.translate = this.pen.map((at) => `${at}px`).join(" ");
			if (!down) return;
			if (!this.own) this.take("Drawn by you", { own: true });
			if (touchdown || !this.strokes.length) this.strokes.push([]);
			this.strokes.at(-1).push(this.pen);
			this.ask({ x: framed(this.strokes) });
		}

		// ---- Images ----

		/** A new image: strokes, pixels x, or a sample to decode. Its noise stays the same, so that no bar flickers. */
		take(about, { own = false, strokes = [], ...question }) {
			Object.assign(this, { own, strokes, draws: [] });
			this.part(".seen span").textContent = this.about = about;
			if (!own) this.ask(question);
		}

		clear() {
			this.take("An empty image", { x: framed([]) });
		}

		letter() {
			const all = Object.entries(LETTERS);
			const [name, strokes] = all[this.letters++ % all.length];
			this.take(`The letter ${name}`, { strokes, x: framed(strokes) });
		}

		noise() {
			this.take("Noise: every pixel any grey", { x: framed([]).map(Math.random) });
		}

		sample() {
			const y = Math.floor(10 * Math.random());
			if (this.model) this.take(`A sample under label ${y}`, { sample: [normals(this.codes), [y]] });
		}

		/** Have an image read. While an answer is due, only the latest image waits. */
		async ask(question) {
			Object.assign(this, { x: question.x, question });
			this.repaint();
			if (this.busy || !this.model) return;
			this.busy = true;
			while (this.question) {
				const length = this.codes * (this.getAttribute("draws") ?? 1);
				if (this.draws.length !== length) this.draws = normals(length);
				const asked = { ...this.question, noise: this.draws };
				this.question = null;
				this.show(await this.model(asked));
			}
			this.busy = false;
		}

		// ---- What one sees ----

		repaint() {
			const context = this.part(".pad canvas").getContext("2d");
			context.imageSmoothingEnabled = false;
			context.fillRect(0, 0, PAD, PAD);
			if (this.strokes.length) ink(context, this.strokes, PAD / 11);
			else context.drawImage(this.part(".seen canvas"), 0, 0, PAD, PAD);
		}

		show(answer) {
			this.answer = answer;
			if (!this.question) this.x = answer.x;
			const { scores, posteriors, means } = answer;
			const best = Math.max(...scores);
			const total = best + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - best), 0));
			const floor = best < -250 ? 2500 : 250; // of the bars, in nats below 0
			const rows = scores.map((score, y) => {
				const share = Math.exp(score - total);
				return `<tr class="${score === best && "best"}"><th>${y}<td>${this.picture}></canvas>
					<td style="--bar: ${clamped(1 + score / floor, 1)}">${fixed(score, 1)}<td style="--bar: ${share}">${fixed(share, 3)}`;
			});
			this.part("tbody").innerHTML = rows.join("");
			this.querySelectorAll("td canvas").forEach((canvas, y) => paint(canvas, means[y]));
			if (this.codes === 2) this.part(".codes").innerHTML = posteriors.map(ellipse).join("");
			paint(this.part(".seen canvas"), answer.x);
			this.repaint();

			const evidence = total - Math.log(scores.length); // log p(x)
			const { low, high, counts, images } = this.histogram;
			const at = clamped((counts.length * (evidence - low)) / (high - low), counts.length); // in bins
			const below = counts.reduce((sum, count, i) => sum + count * clamped(at - i, 1), 0) / images;
			this.part(".histogram b").style.left = `${(100 * at) / counts.length}%`;
			const unusual = `log p(x) = ${fixed(evidence, 1)} nats. Of the test images, ${fixed(100 * below, 1)} % have less.`;
			this.part(".unusual").textContent = unusual;
			this.announce(`${this.about}, read as ${scores.indexOf(best)}. ${unusual}`);
		}
	}

	/** A posterior in the plane: an ellipse of two sigma, and the label. */
	function ellipse({ mean, sigma }, y) {
		const [x1, x2, rx, ry] = [mean[0], -mean[1], 2 * sigma[0], 2 * sigma[1]].map((value) => SCALE * value);
		return `<g style="--digit: ${y}" transform="translate(${x1} ${x2})">
			<ellipse rx="${rx}" ry="${ry}"/><text class="halo">${y}</text></g>`;
	}

	customElements.define("digit-classifier", DigitClassifier);
})();
