# The loop that runs in R: reads a line "<id> <kind> <code in hex>", does it, and ends its output with a mark.
# Output and messages go to one stream, so that they stay in order.
local({
  MARK <- "\x1e"
  options(warn = 1, width = 100, device = function(...) pdf(file = "~/Rplots.pdf", ...))
  input <- file("stdin", "r")

  # RStudio's way from an address on this machine to one that the browser reaches.
  translate <- function(url, absolute = FALSE) {
    port <- sub("^[a-z]+://[^/:]*:([0-9]+).*$", "\\1", url)
    rest <- sub("^[a-z]+://[^/]*/?", "", url)
    token <- Sys.getenv("RSTUDIO_PORT_TOKEN_FILE")
    paste0("p/", system2("/usr/bin/python3", c("/opt/standin/ports.py", shQuote(token), port), stdout = TRUE), "/", rest)
  }
  attach(list(.rs.api.translateLocalUrl = translate), name = "tools:rstudio")

  decode <- function(hex) {
    at <- seq(1, nchar(hex), 2)
    text <- rawToChar(as.raw(strtoi(substring(hex, at, at + 1), 16L)))
    Encoding(text) <- "UTF-8"
    text
  }

  evaluate <- function(code) {
    expressions <- parse(text = code, keep.source = FALSE)
    for (expression in expressions) {
      result <- withVisible(eval(expression, envir = globalenv()))
      if (result$visible) print(result$value)
    }
  }

  save_to <- function(path) {
    beside <- paste0(path, ".new")
    save.image(beside)
    file.rename(beside, path)
  }

  names_of <- function(ignored) cat(ls(globalenv()), sep = "\n")

  kinds <- list(eval = evaluate, save = save_to, load = function(path) load(path, envir = globalenv()), names = names_of)

  repeat {
    line <- tryCatch(readLines(input, n = 1), interrupt = function(i) NULL)
    if (is.null(line)) next
    if (!length(line)) break
    parts <- strsplit(line, " ", fixed = TRUE)[[1]]
    status <- tryCatch({
      kinds[[parts[2]]](if (length(parts) > 2) decode(parts[3]) else "")
      "ok"
    }, error = function(error) {
      call <- conditionCall(error)
      where <- if (is.null(call)) "" else paste0(" in ", deparse(call)[1])
      cat("Error", where, " : ", conditionMessage(error), "\n", sep = "")
      "error"
    }, interrupt = function(interrupt) {
      cat("\n")
      "interrupted"
    })
    cat("\n", MARK, parts[1], " ", status, "\n", sep = "")
    flush(stdout())
  }
})
