.PHONY: demo test check bench faults smoke adapters clean
demo test check bench faults smoke adapters:
	@bash scripts/$@
clean:
	rm -rf .venv .venv-* demo.html runs
