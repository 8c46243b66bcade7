.PHONY: demo test check bench faults smoke keras clean
demo test check bench faults smoke keras:
	@bash scripts/$@
clean:
	rm -rf .venv .venv-* demo.html runs
