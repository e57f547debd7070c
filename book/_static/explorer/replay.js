// <training-replay>: the codes of test images while a VAE learns where to put them, epoch by epoch.
//   <training-replay weights="vae-2d"></training-replay>
"use strict";

(() => {
	const { fixed, SCALE } = explorer;
	const PACE = 900; // milliseconds from one epoch to the next
	const still = matchMedia("(prefers-reduced-motion: reduce)");
	const reading = (name) => `<div><dt>${name}</dt><dd></dd></div>`;

	class TrainingReplay extends explorer.Element {
		build() {
			this.innerHTML = `
				<div class="sides">
					<div class="plane" role="img" aria-label="Test images in the latent plane">
						<svg ${explorer.BOX}>${explorer.axes()}</svg></div>
					<div class="read"><dl>${["Epoch", "Loss on test images", "Reconstruction", "KL to the prior"].map(reading).join("")}</dl></div>
				</div>
				<div class="player">
					<button disabled>Play</button>
					<input type="range" min="0" max="0" value="0" aria-label="Epoch" disabled>
				</div>
				<p class="help">Each digit is the posterior mean of a test image. Between epochs the way is drawn, not measured.</p>
				<p class="source"></p>`;
			[this.button, this.slider] = this.querySelectorAll(".player > *");
			this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
			this.slider.addEventListener("input", () => {
				this.time = Number(this.slider.value);
				this.pause();
			});
		}

		/** Fetch what it shows, now that it is in view. */
		start() {
			return this.fetch(this.getAttribute("weights") ?? "vae-2d", ["replay"], ({ labels, terms, numbers, same_run }) => {
				Object.assign(this, { terms, means: explorer.halves(numbers) });
				this.part(".codes").innerHTML = [...labels].map((y) => `<text style="--digit: ${y}">${y}</text>`).join("");
				this.digits = this.querySelectorAll(".codes text");
				this.slider.max = terms.length;
				this.slider.disabled = this.button.disabled = false;
				this.go(0);
				const run = same_run ? "its training" : "a second run of its recipe and seed, which need not end at these weights";
				return `The digits are the first ${labels.length} test images of MNIST in ${run}.`;
			});
		}

		/** From here to the last epoch; from there, all over again. */
		play() {
			this.playing = true;
			this.button.textContent = "Pause";
			const start = performance.now() - PACE * (this.time % this.terms.length);
			const frame = (now) => {
				if (!this.playing || !this.isConnected) return;
				this.go(Math.min(Math.max(now - start, 0) / PACE, this.terms.length));
				if (this.time === this.terms.length) this.pause();
				else requestAnimationFrame(frame);
			};
			requestAnimationFrame(frame);
		}

		/** Stop, at an epoch that was stored. */
		pause() {
			this.playing = false;
			this.button.textContent = "Play";
			this.go(Math.floor(this.time));
			this.announce(`${this.slider.ariaValueText}.`);
		}

		/** Show a time in epochs. For readers who prefer reduced motion the digits step. */
		go(time) {
			this.time = time;
			const epoch = Math.floor(time);
			const way = still.matches ? 0 : time - epoch;
			const { length } = this.digits;
			this.digits.forEach((digit, n) => {
				const [z1, z2] = [0, 1].map((j) => {
					const [from, to = from] = [epoch, epoch + 1].map((at) => this.means[2 * (at * length + n) + j]);
					return SCALE * (from + way * (to - from));
				});
				digit.setAttribute("transform", `translate(${z1} ${-z2})`);
			});
			const [reconstruction, kl] = this.terms[epoch - 1] ?? []; // no loss was measured before training
			const nats = (value) => (epoch ? `${fixed(value)} nats` : "not measured");
			const said = [epoch ? `${epoch} of ${this.terms.length}` : "0, before training"];
			said.push(...[reconstruction + kl, reconstruction, kl].map(nats));
			this.querySelectorAll("dd").forEach((part, i) => (part.textContent = said[i]));
			this.slider.value = epoch;
			this.slider.ariaValueText = `Epoch ${said[0]}, loss ${said[1]}`;
		}
	}

	customElements.define("training-replay", TrainingReplay);
})();
