.PHONY: demo page test check bench faults smoke adapters keras clean
demo page test check bench faults smoke adapters keras:
	@bash scripts/$@
clean:
	rm -rf .venv .venv-* demo.html runs
