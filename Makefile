.PHONY: demo test check bench smoke clean
demo test check bench smoke:
	@bash scripts/$@
clean:
	rm -rf .venv demo.html runs
