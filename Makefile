.PHONY: demo test check bench faults smoke clean
demo test check bench faults smoke:
	@bash scripts/$@
clean:
	rm -rf .venv demo.html runs
